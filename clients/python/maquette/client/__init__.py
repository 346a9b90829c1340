"""The asyncio client for Python."""
