"""The only SQL, and the spool beside it. One module a thing."""
