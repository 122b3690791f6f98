"""Providers as they look from outside: signed requests for demos, load and tests. Never used on real traffic."""
