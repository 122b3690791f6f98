"""What the API and the console show: bounded, ordered reads that change nothing."""
