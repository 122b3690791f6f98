"""HTTP: the raw webhook path, the API, and what operators read. Writes through `pipeline`, reads through `store`."""
