"""The frozen prefix of a model: its stages, their stored outputs, and the cache on disk."""
