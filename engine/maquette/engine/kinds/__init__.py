"""What the kinds of document mean: schema, description of changes, policy."""
