"""Hostile input by chance, from a seed, against everything that takes input from outside: `make fuzz`."""
