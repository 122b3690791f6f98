"""Takes in customer messages from many channels, and loses none."""
