"""Image encoders that judge images: style encoders and image-text scorers."""
