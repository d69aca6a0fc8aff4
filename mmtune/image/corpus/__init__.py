"""Image data: folders, checking, captions, prompts, and images that are made."""
