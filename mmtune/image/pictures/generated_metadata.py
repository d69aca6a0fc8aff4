"""Metadata of generated PNG files: how they were made, and that a model made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from PIL.Image import Image

from mmtune.image.pictures.encode import save_picture
from mmtune.system.version import VERSION

XMP = "XML:com.adobe.xmp"  # the keyword under which PNG holds XMP (XMP Specification, part 3)
# IPTC's term for media made by a trained model; platforms read it to label images.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def xmp() -> str:
    """Write an XMP packet that names IPTC's digital source type and the tool (mmtune)."""
    facts = {
        "xmlns:Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "xmlns:xmp": "http://ns.adobe.com/xap/1.0/",
        "Iptc4xmpExt:DigitalSourceType": DIGITAL_SOURCE_TYPE,
        "xmp:CreatorTool": f"mmtune {VERSION}",
    }
    written = " ".join(f"{name}={quoteattr(value)}" for name, value in facts.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {written}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def save_png(image: Image, path: Path, facts: Mapping[str, object]) -> None:
    """Write an image as PNG, with `facts` as text (UTF-8) and the XMP mark of generated media.

    Args:
        facts: PNG text entries by keyword, such as `seed`. Not `prompt`: under that keyword
            ComfyUI expects its own JSON. `parameters` is written as A1111 writes it: as Latin-1
            where that holds the text, else as UTF-8.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in facts.items():
        write = info.add_text if name == "parameters" else info.add_itxt
        write(name, str(value))
    info.add_itxt(XMP, xmp())
    save_picture(image, path, pnginfo=info)
