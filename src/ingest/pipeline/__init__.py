"""The steps, one module each. Steps never import each other: they meet through jobs."""
