"""Contract suites for adapters of the engine's ports, wherever those live. Needs the test packages."""
