"""Drawing pictures with a base and its adapters."""
