"""Kills and power cuts: what a client was shown or told is in the log afterwards (rules D1, L1, L6)."""
