"""Planted bugs, each of which a test must find: `make mutations`."""
