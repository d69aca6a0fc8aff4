"""Sampling: images from prompts, with a base and its adapters."""
