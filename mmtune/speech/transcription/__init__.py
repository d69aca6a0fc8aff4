"""Recordings of any length to text: voice activity, windows, terms, subtitles."""
