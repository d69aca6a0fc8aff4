"""The cache of precomputed features on disk: tensors by key, one safetensors file per entry.

A key is a hash of everything that its value depends on. So an entry never gets out of date,
any number of runs may share it, and what a running one uses is pinned. safetensors itself has no
checksum and would load a damaged file, so each file's metadata holds one, and a damaged entry
counts as missing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.errors import ConfigError, MmtuneError
from mmtune.system.hashing import hash_tensors
from mmtune.system.locks import held, hold, hold_when_free
from mmtune.system.resources import cache_root
from mmtune.system.stored import DAMAGE

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
TEMPORARY = ".partial-"
DAY = 86_400.0
TOUCH_AFTER = 3_600.0  # s; the time of the last use is updated at most this often
LIMIT = "MMTUNE_CACHE_LIMIT"  # environment variable: the most that a cache may hold, in GiB
MARGIN = 0.05  # share of the limit that is written between two looks at the cache's size


@dataclass(frozen=True)
class Summary:
    """The cache entries of one stage of one model, which share a `note`."""

    note: str
    entries: int
    bytes: int
    last_used: float  # seconds since 1970


class _Pin:
    """The entries of one cache that this process uses: a list of keys, and a lock that says so.

    If the process dies, its lock ends, and the list no longer counts.
    """

    def __init__(self, cache: PrefixCache) -> None:
        self.cache = cache
        self._known: set[str] = set()
        self._stack = contextlib.ExitStack()
        with cache._exclusive(), contextlib.ExitStack() as stack:
            path = cache._pins / uuid.uuid4().hex
            stack.enter_context(hold(path.with_suffix(PIN_LOCK), path))
            stack.callback(path.unlink, missing_ok=True)
            self._file = stack.enter_context(path.open("w", encoding="ascii"))
            self._stack = stack.pop_all()

    def add(self, keys: Iterable[str]) -> None:
        """Pin more entries."""
        new = [key for key in keys if key not in self._known]
        if new:
            self._known.update(new)
            self._file.writelines(f"{key}\n" for key in new)
            self._file.flush()

    def close(self) -> None:
        """Unpin all entries."""
        self._stack.close()


_PINNING: list[dict[Path, _Pin | None]] = []  # one for each `pinning` that is open
_PINNED = threading.Lock()  # threads of one process share its pins
PIN_LOCK = ".lock"


@contextlib.contextmanager
def pinning() -> Iterator[None]:
    """Pin each entry that any cache of this process reads, writes or asks for, until the end.

    A cache that can't be written is read without pins. A cache above its limit is pruned then.
    """
    pins: dict[Path, _Pin | None] = {}
    _PINNING.append(pins)
    try:
        yield
    finally:
        _PINNING.remove(pins)
        for pin in pins.values():
            if pin is not None:
                pin.close()
                pin.cache.keep_limit()


class PrefixCache:
    """A store of tensors by key that several processes may use at once.

    Args:
        root: the cache folder (default: a folder in `mmtune.system.resources.cache_root()`).

    Raises:
        ConfigError: `MMTUNE_CACHE_LIMIT` is no number above 0.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root() / "prefix"
        self.limit = _limit()
        self._written: int | None = None  # bytes since the last look at the size; None: never

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry; only `get` tells whether it is undamaged."""
        self._use(key)
        return self._path(key).exists()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Load the tensors of `key` on the CPU; None if they are missing or damaged."""
        self._use(key)
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
        self._use(key)
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
        self._count(len(data))

    @contextlib.contextmanager
    def pin(self, keys: Iterable[str]) -> Iterator[None]:
        """Protect entries from `prune` until the context ends, or the process."""
        pin = _Pin(self)
        try:
            pin.add(keys)
            yield
        finally:
            pin.close()

    def keep_limit(self) -> None:
        """Prune the cache to its limit, if it has one."""
        if self.limit is not None:
            with contextlib.suppress(OSError):  # another user's entries may be in it
                self.prune(max_bytes=round(self.limit * (1 - MARGIN)))
        self._written = 0

    def ls(self) -> list[Summary]:
        """Summarise the entries by stage and model, largest first."""
        found: dict[str, tuple[int, int, float]] = {}
        for file in self._entries():
            with contextlib.suppress(OSError):
                stat = file.stat()
                note = _header(Path(file.path)).get("note", "")
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
            ages: list[tuple[float, int, int, str, str]] = []
            for file in self._files():
                with contextlib.suppress(OSError):
                    stat = file.stat()
                    if file.name.startswith(TEMPORARY):
                        if now - stat.st_mtime > DAY:
                            Path(file.path).unlink()
                    elif file.name.endswith(SUFFIX):
                        found = stat.st_mtime, stat.st_size, stat.st_ino, file.name, file.path
                        ages.append(found)
            left = sum(size for _, size, *_ in ages)
            freed, unused = 0, []
            for used, size, inode, name, path in sorted(ages):
                old = older_than_days is not None and now - used > older_than_days * DAY
                over = max_bytes is not None and left > max_bytes
                if name.removesuffix(SUFFIX) in pinned or not (old or over):
                    continue
                freed, left = freed + size, left - size
                unused.append((inode, path))
            # In the order of their place on the disk, which is much faster than by age.
            for _, path in sorted(unused):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108  (a Path for each takes longer than this)
        return len(unused), freed

    def verify(self) -> list[str]:
        """Read every entry, remove the damaged ones and return their keys."""
        damaged = []
        for path in [Path(file.path) for file in self._entries()]:
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

    def _use(self, key: str) -> None:
        with _PINNED:
            for pins in _PINNING:
                if self.root not in pins:
                    try:
                        pins[self.root] = _Pin(self)
                    except (OSError, MmtuneError):  # it can't be written
                        pins[self.root] = None
                pin = pins[self.root]
                if pin is not None:
                    pin.add([key])

    def _count(self, size: int) -> None:
        if self.limit is None:
            return
        if self._written is not None:
            self._written += size
        if self._written is None or self._written > self.limit * MARGIN:
            self.keep_limit()

    def _files(self) -> Iterator[os.DirEntry[str]]:
        # Not Path.glob, which asks the disk for each file several times.
        with os.scandir(self.root) as folders:
            named = sorted(each.path for each in folders if len(each.name) == 2 and each.is_dir())
        for folder in named:
            found: list[os.DirEntry[str]] = []
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
                found = [file for file in files if file.is_file(follow_symlinks=False)]
            # In the order of their place on the disk: looking at each is then faster.
            yield from sorted(found, key=lambda file: file.inode())

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        if self.root.is_dir():
            yield from (file for file in self._files() if file.name.endswith(SUFFIX))

    def _pinned(self) -> set[str]:
        keys: set[str] = set()
        for path in self._pins.iterdir():
            if path.suffix == PIN_LOCK:
                continue
            lock = path.with_suffix(PIN_LOCK)
            if held(lock):
                with contextlib.suppress(FileNotFoundError):
                    keys.update(path.read_text(encoding="ascii").split())
            else:  # the process that pinned them has ended
                lock.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        return keys

    def _exclusive(self) -> AbstractContextManager[None]:
        self._pins.mkdir(parents=True, exist_ok=True)
        return hold_when_free(self.root / "lock", self.root)


def _limit() -> int | None:
    """The most bytes that a cache may hold, by the environment; None: no limit."""
    given = os.environ.get(LIMIT, "")
    if not given:
        return None
    try:
        most = float(given) * 2**30
    except ValueError:
        most = 0.0
    if not 0 < most < float("inf"):
        raise ConfigError(f"{LIMIT} is {given!r}", f"give a number of GiB above 0: {LIMIT}=20")
    return round(most)


def _header(path: Path) -> dict[str, str]:
    # A safetensors file begins with eight bytes of length and JSON that holds "__metadata__".
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            metadata = json.loads(file.read(min(length, 1_000_000))).get("__metadata__", {})
        except DAMAGE:
            return {}
    if not isinstance(metadata, dict):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(value, str)}


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
