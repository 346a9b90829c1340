"""The engine: events, the log, documents, the gate and the scene. Knows nothing of HTTP or read models."""
