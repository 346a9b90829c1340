"""Plain methods that write into a replica of a document: for the Python client and for pens."""
