"""Helpers for the machine: files, hashes, memory, precision, processes, arguments."""
