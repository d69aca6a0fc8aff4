"""The hash of what a path holds: a file, a manifest with the files it names, or a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from mmtune.system.hashing import hash_file, hash_json

MANIFEST = ".jsonl"
SPLITS_FILE = "mmtune-splits.jsonl"  # ends the name of a split ledger, which is no content
VERSIONS = "mmtune-versions"  # ends the name of a version log's folder, which is no content
MAX_NAME = 4096  # characters; a longer text in a manifest is no path


def hash_contents(path: Path, skip: Collection[str] = ()) -> str:
    """SHA-256 of what a path holds, in hexadecimal; "" if there is nothing.

    A .jsonl file counts with the files that its rows name. A folder counts with all files below it,
    by relative name; hidden ones, split ledgers, version logs and what is behind linked folders
    don't.

    Args:
        path: a file or folder.
        skip: names of files in a folder that don't count.

    Raises:
        OSError: a file can't be read.
    """
    if path.is_dir():
        files = {
            str(file.relative_to(path)): file for file in _below(path) if file.name not in skip
        }
    elif path.is_file():
        if path.suffix != MANIFEST:
            return hash_file(path)
        files = {"": path} | {name: path.parent / name for name in _named_in(path)}
    else:
        return ""
    return hash_json({name: hash_file(file) for name, file in files.items()})


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not n.startswith(".") and not n.endswith(VERSIONS)]
        for name in names:
            file = Path(place, name)
            own = name.startswith(".") or name.endswith(SPLITS_FILE)
            if not own and file.is_file():
                yield file


def _named_in(manifest: Path) -> Iterator[str]:
    with manifest.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the reader of rows reports it
            for value in row.values() if isinstance(row, dict) else ():
                if isinstance(value, str) and _is_file(manifest.parent, value):
                    yield value


def _is_file(folder: Path, name: str) -> bool:
    try:
        return 0 < len(name) <= MAX_NAME and (folder / name).is_file()
    except (OSError, ValueError):
        return False
