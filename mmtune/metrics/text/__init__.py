"""Metrics of transcripts, one a file."""
