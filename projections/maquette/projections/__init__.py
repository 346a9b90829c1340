"""Read models that are built from the log and can always be rebuilt from it."""
