"""A piece's recording as a file, also where a table holds its bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mmtune.speech.corpus.importers.piece import Piece
from mmtune.system.files import PARTIAL, write_bytes
from mmtune.system.hashing import hash_bytes


@contextmanager
def on_disk(piece: Piece, folder: Path | None = None) -> Iterator[Path]:
    """Yield the path of a piece's recording; bytes of a table are a file meanwhile.

    Args:
        piece: the piece.
        folder: for that file, which only the owner may read; None: a temporary folder. After a
            kill its name, which begins with `PARTIAL`, marks it as left behind.
    """
    if isinstance(piece.file, Path):
        yield piece.file
        return
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        suffix = re.sub(r"[^A-Za-z0-9.]", "", Path(piece.recording).suffix[:8])
        path = folder / f"{PARTIAL}{hash_bytes(piece.file)[:16]}{suffix}"
        write_bytes(path, piece.file, private=True)
        stack.callback(path.unlink)
        yield path
