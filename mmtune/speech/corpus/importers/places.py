"""Find the recordings that tables name: beside the table, in its folders, or in `--audio-dir`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from mmtune.system.inside import inside
from mmtune.system.stored import is_file

# Folders in which a table's files may lie, besides the table's own folder.
FOLDERS = ("", "clips", "audio", "wavs", "wav", "data")
ENDINGS = ("", ".mp3", ".wav", ".flac")  # LJ Speech and old Common Voice omit the suffix


@dataclass(frozen=True)
class Place:
    """Where a recording was found.

    Attributes:
        path: the file; None if there is none.
        how: what was added to the name as it is written; empty if nothing was.
        by_name: only the end of the path that the table states was found.
    """

    path: Path | None
    how: str = ""
    by_name: bool = False


class Places:
    """The folders in which the recordings of a table are looked for.

    Args:
        root: the table's folder.
        audio_dir: folder of the recordings, which comes first.
        allowed: another folder whose files may be read, if the table names them.
    """

    def __init__(
        self, root: Path, audio_dir: Path | None = None, allowed: Path | None = None
    ) -> None:
        self.root = root
        self.allowed = allowed
        self.audio_dir = audio_dir
        self.roots = [audio_dir, root] if audio_dir else [root]
        self._found = lru_cache(1024)(self._search)  # each row asks several times

    def find(self, name: str) -> Place:
        """Find a recording by its name in a table, which may be a path of Windows."""
        return self._found(name)

    def _search(self, name: str) -> Place:
        for each, by_name in self._names(name):
            for root in self.roots:
                for folder in FOLDERS:
                    for ending in ENDINGS:
                        path = root / folder / (each + ending)
                        if is_file(path):
                            literal = each == name and root == self.root and not folder + ending
                            end = "" if by_name is False and each != name else each
                            how = "" if literal else self._how(root, folder, end, name, ending)
                            return Place(path, how, by_name)
        return Place(None)

    def may_read(self, path: Path) -> bool:
        """Whether a file lies in one of the folders; a table of somebody else may name any file."""
        folders = [*self.roots, self.allowed] if self.allowed else self.roots
        return any(inside(folder, path) is not None for folder in folders)

    def missing(self, name: str) -> tuple[str, str]:
        """Say where a recording was looked for, and what helps."""
        folders = [
            f"{root} and its folders {', '.join(filter(None, FOLDERS))}" for root in self.roots
        ]
        cure = "name the folder of the recordings: --audio-dir DIR"
        if self.audio_dir:
            cure = f"put the file into {self.audio_dir}, or remove the row"
        return f"{name} was not found; looked in {'; '.join(folders)}", cure

    def _names(self, name: str) -> Iterator[tuple[str, bool]]:
        windows = PureWindowsPath(name)
        yield name, False
        if "\\" in name and not windows.drive:
            yield windows.as_posix(), False
        if "\\" in name or self.audio_dir:
            parts = [part for part in windows.parts[bool(windows.anchor) :] if part != ".."]
            for first in range(len(parts)):
                end = "/".join(parts[first:])
                if end not in (name, windows.as_posix()):
                    yield end, True

    def _how(self, root: Path, folder: str, kept: str, name: str, ending: str) -> str:
        where = "" if root == self.root else f"{root}/"
        what = "NAME" if kept == name else "the end of the path" if kept else "the path with /"
        return f"{where}{folder + '/' if folder else ''}{what}{ending}"
