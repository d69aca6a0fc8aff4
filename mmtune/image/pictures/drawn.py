"""SVG drawings as pixels, by resvg_py where it is installed."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from mmtune.system.stored import read_bytes

SIDE = 1024  # pixels of the longer side
MAX_RATIO = 64  # a longer side of a shape like this has too few pixels across
MAX_SVG = 32_000_000  # bytes, also of an unpacked .svgz
_LENGTH = re.compile(r"\s*([\d.]+(?:[eE][+-]?\d+)?)\s*(px|pt|pc|mm|cm|in|)\s*")
_PIXELS = {
    "": 1.0,
    "px": 1.0,
    "pt": 4 / 3,
    "pc": 16.0,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "in": 96.0,
}
# What a drawing must not read: other files. Places in itself and embedded data are let through.
_OUTSIDE = re.compile(
    r"""(?:href\s*=\s*["']\s*|url\(\s*["']?\s*)(?!\#|data:|["')])""", re.IGNORECASE
)
_LINK = re.compile(r"<(?:\w+:)?a\b[^>]*>", re.IGNORECASE)


def draw_svg(path: Path) -> Image.Image:
    """Draw an SVG with a longer side of `SIDE` pixels; what it leaves empty is transparent.

    Raises:
        ValueError: it is no SVG, can't be drawn, states no size, or refers to other files.
        OSError: it can't be read.
        DataError: it is too large.
    """
    import resvg_py

    data = read_bytes(path, most=MAX_SVG)
    if data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        data = unpacker.decompress(data, MAX_SVG)
        if unpacker.unconsumed_tail:
            raise ValueError(f"it unpacks to more than {MAX_SVG:,} bytes")
    width, height = _shape(data)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"its shape is {width:g} to {height:g}")
    text = _text(data)
    if _OUTSIDE.search(_LINK.sub("", text)):
        raise ValueError("it refers to other files, which aren't read")
    is_wide = width >= height
    png = resvg_py.svg_to_bytes(
        svg_string=text, width=SIDE if is_wide else None, height=None if is_wide else SIDE
    )
    return Image.open(io.BytesIO(bytes(png)), formats=("PNG",))


def _shape(data: bytes) -> tuple[float, float]:
    try:
        _, root = next(ElementTree.iterparse(io.BytesIO(data), events=("start",)))
    except (ElementTree.ParseError, StopIteration, LookupError) as error:
        raise ValueError(f"it is no SVG: {error}") from None
    if root.tag.rpartition("}")[2] != "svg":
        raise ValueError(f"it is no SVG: it begins with <{root.tag}>")
    box = [
        float(each) for each in re.findall(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", root.get("viewBox", ""))
    ]
    sizes = [_LENGTH.fullmatch(root.get(name, "")) for name in ("width", "height")]
    found = [float(size[1]) * _PIXELS[size[2]] for size in sizes if size]
    if len(found) < 2:  # "100%" or nothing: the box gives the shape
        found = box[2:4]
    if len(found) != 2 or not all(0 < side < 1e9 for side in found):
        raise ValueError("it states no size")
    return found[0], found[1]


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")
