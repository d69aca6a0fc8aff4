"""Image data: folders, checks, captions, prompts, and images for prior preservation."""
