"""`python -m ingest`: the command line without its script."""

from ingest.cli import main

main()
