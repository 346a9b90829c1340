"""The scene model: tree, geometry, schema and file formats. Pure: no CRDT, no I/O."""
