"""Measures this system beside two comparators, on the same servers, in one run. `make bench` runs it."""
