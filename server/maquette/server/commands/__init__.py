"""The commands of `maquette`, one module each. Rule: results go to stdout, everything else to stderr."""
