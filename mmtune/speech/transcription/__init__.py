"""Transcribe recordings of any length: detect speech, cut windows, find terms, write subtitles."""
