"""The cache of precomputed features on disk: tensors by key, one safetensors file per entry.

A key is a hash of everything that its value depends on. So an entry never gets out of date, and
any number of runs may share it. safetensors itself has no checksum and would load a damaged file,
so each file's metadata holds one, and a damaged entry counts as missing.
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
TOUCH_AFTER = 3_600.0  # s; the time of the last use is updated at most this often


@dataclass(frozen=True)
class Summary:
    """The cache entries of one stage of one model, which share a `note`."""

    note: str
    entries: int
    bytes: int
    last_used: float  # seconds since 1970


class PrefixCache:
    """A store of tensors by key that several processes may use at once.

    Args:
        root: the cache folder (default: a folder in `mmtune.system.resources.cache_root()`).
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root() / "prefix"

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry; only `get` tells whether it is undamaged."""
        return self._path(key).exists()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Load the tensors of `key` on the CPU; None if they are missing or damaged."""
        path = self._path(key)
        tensors = _read(path)
        if tensors is not None:
            with contextlib.suppress(OSError):  # another process pruned it, or it is read-only
                if time.time() - path.stat().st_mtime > TOUCH_AFTER:
                    os.utime(path)
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor], note: str = "") -> None:
        """Store `tensors` under `key`, atomically.

        Args:
            key: the hash of everything that the values depend on.
            tensors: tensors by name; any dtype, shape and device.
            note: the stage and model that made them; `ls` groups entries by it.

        Raises:
            MmtuneError: the disk is full or the folder can't be written.
        """
        from safetensors.torch import save

        # Cloned, because safetensors refuses tensors that share memory or are not contiguous.
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
                f"can't write to the cache {self.root}: {what}",
                "free space with mmtune cache prune, set MMTUNE_CACHE to a folder on a larger "
                "disk, or train with --cache false",
            ) from None

    @contextlib.contextmanager
    def pin(self, keys: Iterable[str]) -> Iterator[None]:
        """Protect entries from `prune` until the context ends.

        A pin is a locked file. If its process dies, the system releases the lock, and the pin no
        longer counts.
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
        """Summarise the entries by stage and model, largest first."""
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
        """Remove entries that no running process has pinned, least recently used first.

        Files that interrupted writes left behind are always removed; they are not counted.

        Args:
            older_than_days: remove entries that were not used for this many days.
            max_bytes: then remove entries until this many bytes are left.

        Returns:
            The number of removed entries and of freed bytes.
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
            raise ValueError(f"{key!r} is not a cache key")  # a key becomes a file's name
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
                else:  # the process that pinned them has ended
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
    # A safetensors file begins with eight bytes of length and JSON that holds "__metadata__".
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
        # Read, not memory-mapped: a disk error then raises here instead of killing the process.
        tensors: dict[str, Tensor] = load(path.read_bytes())
        header = _header(path)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError):
        return None
    if header.get("key") != path.stem or header.get("sha256") != hash_tensors(tensors.items()):
        return None
    return tensors
