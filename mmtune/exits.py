"""Exit codes of the commands."""
