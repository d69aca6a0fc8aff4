"""The prefix cache: tensors by key on disk, one safetensors file an entry.

Content-addressed: a key is a hash of everything that its value depends on, so an entry never goes
stale and any number of runs may share it. safetensors keeps no checksum (a flipped bit loads in
silence), so each file's metadata holds one, and a damaged entry reads as missing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.errors import MmtuneError
from mmtune.system.hashing import hash_tensors
from mmtune.system.resources import cache_root

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
TEMPORARY = ".partial-"
DAY = 86_400.0
TOUCH_AFTER = 3_600.0  # s: "last used" is written at most this often


@dataclass(frozen=True)
class Summary:
    """The entries that one stage of one model made (equal `note`)."""

    note: str
    entries: int
    bytes: int
    last_used: float  # seconds since 1970


class PrefixCache:
    """Tensors by key, safe under several processes at once.

    Args:
        root: the folder; by default below `mmtune.system.resources.cache_root()`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root() / "prefix"

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry; `get` alone tells whether it is sound."""
        return self._path(key).exists()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of `key` on the CPU; None where they are missing or damaged."""
        path = self._path(key)
        tensors = _read(path)
        if tensors is not None:
            with contextlib.suppress(OSError):  # pruned by another process, or not ours to touch
                if time.time() - path.stat().st_mtime > TOUCH_AFTER:
                    os.utime(path)
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor], note: str = "") -> None:
        """Store `tensors` under `key`, whole or not at all.

        Args:
            key: the hash of all that the values depend on.
            tensors: by name; any dtype, shape and device.
            note: what made them; `ls` groups by it.

        Raises:
            MmtuneError: the disk is full or the folder can't be written.
        """
        from safetensors.torch import save

        # Clones: safetensors refuses tensors that share memory or are not contiguous.
        whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        checksum = hash_tensors(whole.items())
        data = save(whole, metadata={"key": key, "sha256": checksum, "note": note})
        path = self._path(key)
        partial = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            what = "the disk is full" if error.errno == errno.ENOSPC else str(error)
            raise MmtuneError(
                f"can't write the prefix cache {self.root}: {what}",
                "mmtune cache prune, or set MMTUNE_CACHE to a folder with more room, "
                "or train with --cache false",
            ) from None

    @contextlib.contextmanager
    def pin(self, keys: Iterable[str]) -> Iterator[None]:
        """While the context lives, `prune` leaves these entries alone.

        The pin is a locked file: the system frees the lock of a process that dies, however it
        dies, and the pin counts no longer.
        """
        import fcntl

        with self._exclusive():
            path = self._pins / uuid.uuid4().hex
            file = path.open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
            file.writelines(f"{key}\n" for key in keys)
            file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            file.close()

    def ls(self) -> list[Summary]:
        """What is stored, largest first."""
        found: dict[str, tuple[int, int, float]] = {}
        for path in self._entries():
            with contextlib.suppress(OSError):
                stat = path.stat()
                note = _header(path).get("note", "")
                entries, size, used = found.get(note, (0, 0, 0.0))
                found[note] = (entries + 1, size + stat.st_size, max(used, stat.st_mtime))
        return sorted(
            (Summary(note, *rest) for note, rest in found.items()), key=lambda s: -s.bytes
        )

    def prune(
        self, older_than_days: float | None = None, max_bytes: int | None = None
    ) -> tuple[int, int]:
        """Remove entries that no living run has pinned, the longest unused first.

        Args:
            older_than_days: remove what was not used for so long.
            max_bytes: then remove until no more than this is left.

        Returns:
            How many entries and bytes went. With neither argument: only what interrupted writes
            left behind, which is always removed and not counted.
        """
        if not self.root.is_dir():
            return 0, 0
        now = time.time()
        with self._exclusive():
            pinned = self._pinned()
            ages: list[tuple[float, int, Path]] = []
            for path in self._files():
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    if path.name.startswith(TEMPORARY):
                        if now - stat.st_mtime > DAY:
                            path.unlink()
                    elif path.suffix == SUFFIX:
                        ages.append((stat.st_mtime, stat.st_size, path))
            left = sum(size for _, size, _ in ages)
            entries = freed = 0
            for used, size, path in sorted(ages, key=lambda entry: entry[0]):
                old = older_than_days is not None and now - used > older_than_days * DAY
                over = max_bytes is not None and left > max_bytes
                if path.stem in pinned or not (old or over):
                    continue
                path.unlink(missing_ok=True)
                entries, freed, left = entries + 1, freed + size, left - size
        return entries, freed

    def verify(self) -> list[str]:
        """Read every entry, remove the damaged ones and return their keys."""
        damaged = []
        for path in self._entries():
            if path.exists() and _read(path) is None:
                path.unlink(missing_ok=True)
                damaged.append(path.stem)
        return sorted(damaged)

    @property
    def _pins(self) -> Path:
        return self.root / "pins"

    def _path(self, key: str) -> Path:
        if not re.fullmatch(r"[0-9a-zA-Z_-]{3,128}", key):
            raise ValueError(f"no cache key: {key!r}")  # it becomes a file's name
        return self.root / key[:2] / f"{key}{SUFFIX}"

    def _files(self) -> Iterator[Path]:
        return (path for path in self.root.glob("??/*") if path.is_file())

    def _entries(self) -> Iterator[Path]:
        return (path for path in self._files() if path.suffix == SUFFIX)

    def _pinned(self) -> set[str]:
        import fcntl

        keys: set[str] = set()
        for path in self._pins.glob("*"):
            with contextlib.suppress(FileNotFoundError), path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    keys.update(file.read().split())
                else:  # its process is gone
                    path.unlink(missing_ok=True)
        return keys

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        import fcntl

        self._pins.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _header(path: Path) -> dict[str, str]:
    # The safetensors format: eight bytes of length, then JSON with "__metadata__".
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            metadata = json.loads(file.read(min(length, 1_000_000))).get("__metadata__", {})
        except (ValueError, AttributeError):
            return {}
    return metadata if isinstance(metadata, dict) else {}


def _read(path: Path) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # Read whole rather than mapped: a damaged disk gives an error here, not a dead process.
        tensors: dict[str, Tensor] = load(path.read_bytes())
        header = _header(path)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError):
        return None
    if header.get("key") != path.stem or header.get("sha256") != hash_tensors(tensors.items()):
        return None
    return tensors
