"""Suffixes of image files: those that are read, and those that are named in a finding."""

from __future__ import annotations

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# mmtune can't read these. They are listed all the same, so that no image is skipped in silence.
FOREIGN_SUFFIXES = (".heic", ".heif", ".svg", ".psd", ".eps", ".jxl", ".dng", ".cr2", ".nef")
