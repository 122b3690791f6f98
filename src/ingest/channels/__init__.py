"""A provider's words into ours: one module a channel. Adapters never import each other; they meet in `base`."""
