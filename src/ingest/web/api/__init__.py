"""The HTTP API: respond.io's developer API dialect, and our own calls in the same style."""
