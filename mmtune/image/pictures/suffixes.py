"""Suffixes of image files: those that are read, and those that are named in a finding."""

from __future__ import annotations

import functools
import importlib.util

IMAGE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif"),
)
# Read if a package is installed: the module that reads them, and the package's name.
HEIF_SUFFIXES, JXL_SUFFIXES, SVG_SUFFIXES = (".heic", ".heif", ".hif"), (".jxl",), (".svg", ".svgz")
PLUGINS: dict[tuple[str, ...], tuple[str, str]] = {
    HEIF_SUFFIXES: ("pillow_heif", "pillow-heif"),
    JXL_SUFFIXES: ("pillow_jxl", "pillow-jxl-plugin"),
    SVG_SUFFIXES: ("resvg_py", "resvg_py"),
}
# Read only with a package, or not at all. They are listed so that no image is skipped in silence.
FOREIGN_SUFFIXES = (
    *(suffix for suffixes in PLUGINS for suffix in suffixes),
    *(".psd", ".psb", ".ai", ".eps", ".pdf", ".xcf", ".kra", ".indd", ".afphoto"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
    *(".jp2", ".j2k", ".jpx", ".tga", ".ico", ".icns", ".exr", ".hdr", ".ppm", ".pgm", ".pbm"),
    *(".dds", ".wmf", ".emf", ".qoi"),
)
# Their frames become pictures by `mmtune import --frames`; a GIF alone is also read as a picture.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".3gp"),
    *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
)


@functools.cache
def has_module(name: str) -> bool:
    """Whether a package that reads further formats is installed."""
    return importlib.util.find_spec(name) is not None


def readable_suffixes() -> tuple[str, ...]:
    """The suffixes of the images that are read here, with those of installed packages."""
    more = (s for suffixes, (module, _) in PLUGINS.items() if has_module(module) for s in suffixes)
    return (*IMAGE_SUFFIXES, *more)


def convert_cure(suffix: str) -> str:
    """What to do with an image whose format isn't read here."""
    save = "save it as PNG or JPEG"
    for suffixes, (_, package) in PLUGINS.items():
        if suffix in suffixes:
            return f"{save}, or pip install {package}"
    return save
