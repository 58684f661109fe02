"""The engine: files, loading, forward passes, and observations with their store."""
