"""Write PNG files whole: they are encoded in memory, where a full disk can't cut them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.system.files import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image


def save_picture(image: Image, path: Path, *, private: bool = False, **options: Any) -> None:
    """Write an image as PNG.

    Pillow itself writes a part of a JPEG to a full disk without any error.

    Args:
        image: the image.
        path: the file; its folder exists.
        private: whether only the owner may read the file.
        options: of Pillow's PNG writer.

    Raises:
        OSError: the file can't be written.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    write_bytes(path, buffer.getvalue(), private=private)
