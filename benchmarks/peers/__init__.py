"""Maquette beside its peers, over the wire: `python -m benchmarks.peers`."""
