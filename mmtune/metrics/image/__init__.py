"""Metrics of images, one in each file."""
