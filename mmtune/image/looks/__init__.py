"""What judges a picture: style and prompt descriptors."""
