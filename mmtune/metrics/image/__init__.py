"""Metrics of pictures, one a file."""
