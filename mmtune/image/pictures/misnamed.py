"""Names what a file is that no image decoder takes: a pointer of Git LFS, a web page, a HEIC …"""

from __future__ import annotations

from pathlib import Path

from mmtune.image.pictures.suffixes import HEIF_SUFFIXES, JXL_SUFFIXES, convert_cure
from mmtune.system.pointers import pointer_in
from mmtune.system.stored import opened

HEAD = 512  # bytes that are looked at
DOWNLOAD = "download it again"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def name_content(path: Path) -> tuple[str, str, str] | None:
    """Say what a file is that is no image in a known format.

    Returns:
        The kind of the finding, what the file is, and the cure; None: nothing is known of it.
    """
    try:
        with opened(path) as file:
            head = file.read(HEAD)
    except OSError:
        return None
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if (pointer := pointer_in(head)) is not None:
        return "lfs-pointer", pointer.found, pointer.cure
    if text.startswith((b"<!doctype html", b"<html")):
        return "undecodable", "is a web page, not an image", DOWNLOAD
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "undecodable", "is an SVG drawing under another name", "rename it to .svg"
    if text.startswith((b"{", b"[")):
        return "undecodable", "is JSON, not an image", DOWNLOAD
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "undecodable", "is a HEIC image", convert_cure(HEIF_SUFFIXES[0])
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "undecodable", "is a JPEG XL image", convert_cure(JXL_SUFFIXES[0])
    for begin, what in _KNOWN.items():
        if head.startswith(begin):
            return "undecodable", f"is {what}", "save it as PNG or JPEG"
    return None


_KNOWN = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"%!PS": "a PostScript document",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"PK\x03\x04": "an archive",
    b"\0\0\x01\0": "a Windows icon",
    b"II*\0": "a TIFF in a layout of pixels that can't be read",
    b"MM\0*": "a TIFF in a layout of pixels that can't be read",
    b"II+\0": "a BigTIFF in a layout of pixels that can't be read",
    b"MM\0+": "a BigTIFF in a layout of pixels that can't be read",
}
