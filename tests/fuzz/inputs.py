"""One input: files made from a seed, parsed within limits, and judged."""

from __future__ import annotations

import base64
import ctypes
import os
import random
import resource
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.corpus import Files, mutator_of
from tests.fuzz.mutate import SECRET, cut_or_repeat, flip
from tests.fuzz.targets import TARGETS, seeds_of

ROOT = Path(__file__).parents[2]
SECONDS = 2.0  # of computing, for one input
MEMORY = 2**30  # bytes that an input may add
LINK = "link:"  # a file's content that stands for a link to what follows
# Words beside media, which must not be read through a link out of the folder.
BESIDE = (".txt", ".caption", ".vtt", ".srt")


@dataclass(frozen=True)
class Verdict:
    """What came of an input.

    Attributes:
        finding: "" if the parser returned or raised an `MmtuneError`; else what it did.
        where: the innermost function of mmtune.
        refused: whether it raised an `MmtuneError`.
        seconds: time.
        peak: bytes of memory above those before.
    """

    finding: str
    where: str = ""
    refused: bool = False
    seconds: float = 0.0
    peak: int = 0


class Hang(BaseException):
    """The time of one input is over."""


def make(target: str, number: int, seed: int) -> dict[str, bytes]:
    """The files of input `number`: a seed of the target with one to three mutations."""
    chance = random.Random(f"{seed} {target} {number}")
    files = dict(chance.choice(seeds_of(target)))
    if number % 50 == 0:
        return files  # the seeds themselves take part
    names = sorted(files)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        name = chance.choice(names)
        if files[name].startswith(LINK.encode()):
            continue
        if len(files[name]) < 8 or chance.random() < 0.06:
            files[name] = _replaced(files, name, TARGETS[target].linked, chance)
        else:
            files[name] = mutator_of(name)(files[name], chance)
    if chance.random() < 0.03:
        old = chance.choice(names)
        new = chance.choice(["a" * 200, "x\n", "é", "..x", "a.b.c", " ", "-x"]) + Path(old).suffix
        files[str(Path(old).with_name(new))] = files.pop(old)
    return files


def _replaced(files: Mapping[str, bytes], name: str, linked: bool, chance: random.Random) -> bytes:
    what = chance.randrange(4)
    if what == 0 and linked and name.endswith(BESIDE):
        return f"{LINK}{'../' * (1 + name.count('/'))}{SECRET}".encode()
    if what == 1:
        return files[chance.choice(sorted(files))]
    if what == 2:
        return cut_or_repeat(files[name], chance)
    return flip(files[name], chance) if chance.random() < 0.5 else b""


def write(files: Files, folder: Path) -> None:
    """Write an input's files, and beside the folder the file that nobody may open."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data.startswith(LINK.encode()):
            path.symlink_to(data.decode().removeprefix(LINK))
        else:
            path.write_bytes(data)


class Judge:
    """Runs parsers under limits; one for each process, because its hooks can't be removed.

    Args:
        folder: where inputs are written.
        limits: whether this process's memory is limited too.
    """

    def __init__(self, folder: Path, limits: bool = True) -> None:
        self.folder = folder.resolve()
        self._armed = False
        self._broken: list[str] = []
        self._watch = _Watch(self.folder.parent / SECRET)
        allowed = {sys.prefix, sys.base_prefix, str(ROOT), *sysconfig.get_paths().values()}
        self._allowed = tuple(
            os.path.realpath(p) + os.sep
            for p in (*allowed, self.folder, "/proc", "/usr/share", "/usr/lib", "/lib",
                      os.environ.get("TMPDIR", "/nowhere"))
        )  # fmt: skip
        sys.addaudithook(self._audit)
        if limits:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
            signal.signal(signal.SIGPROF, _late)

    def run(self, target: str, files: Files) -> Verdict:
        """Write an input, parse it and judge what the parser did."""
        from mmtune.errors import MmtuneError

        write(files, self.folder)
        self._watch.clear()
        self._broken.clear()
        before = _peak(reset=True)
        begun = time.monotonic()
        raised: BaseException | None = None
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        self._armed = True
        try:
            TARGETS[target].call(self.folder)
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            raised = error
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        seconds, peak = time.monotonic() - begun, max(0, _peak() - before)
        refused = isinstance(raised, MmtuneError)
        finding, where = "", ""
        if isinstance(raised, MmtuneError):
            if not raised.cure:
                finding, where = "an error without a cure", _place(raised)
        elif isinstance(raised, Hang):
            finding, where = "no end", _place(raised)
        elif raised is not None:
            finding = type(raised).__name__
            where = f"{_place(raised)}: {str(raised)[:160]}"
        if self._broken:
            finding, where = self._broken[0], where or "-"
        if not finding and self._watch.opened():
            finding, where = "opened a file outside of the folder", SECRET
        return Verdict(finding, where, refused, seconds, peak)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not (path + os.sep).startswith(self._allowed) and path not in (
                "/dev/null", "/dev/urandom", "/etc/mime.types", "/etc/localtime",
            ):  # fmt: skip
                self._broken.append(f"opened {path}")
        elif event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            self._broken.append(f"network: {event} {arguments[1:2]}")
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            self._broken.append(f"started a program: {arguments[:1]}")


def _late(number: int, frame: FrameType | None) -> None:
    raise Hang


def _place(error: BaseException) -> str:
    """The innermost function of mmtune, or of anything, that the error passed."""
    codes = []
    step = error.__traceback__
    while step is not None:
        codes.append(step.tb_frame.f_code)
        step = step.tb_next
    ours = [c for c in codes if "/mmtune/" in c.co_filename and "/site-pack" not in c.co_filename]
    last = (ours or codes)[-1]
    return f"{last.co_filename.rpartition('/mmtune/')[2]}:{last.co_name}"


def _peak(reset: bool = False) -> int:
    """The most resident bytes since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


class _Watch:
    """Sees whether a file is opened, by whatever library (inotify(7))."""

    OPEN = 0x20

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nthe secret\n")
        library = ctypes.CDLL(None, use_errno=True)
        self._handle = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        library.inotify_add_watch(self._handle, str(path).encode(), self.OPEN)

    def opened(self) -> bool:
        try:
            return bool(os.read(self._handle, 4096))
        except (BlockingIOError, OSError):
            return False

    def clear(self) -> None:
        while self.opened():
            pass


def packed(target: str, files: Files) -> dict[str, Any]:
    """An input as JSON: text as it is, bytes as base64."""
    texts: dict[str, str] = {}
    blobs: dict[str, str] = {}
    for name, data in files.items():
        try:
            texts[name] = data.decode("utf-8")
        except UnicodeDecodeError:
            blobs[name] = base64.b64encode(data).decode()
    return {"target": target, "text": texts, "base64": blobs}


def unpacked(values: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of `packed`; a text may also be a list of (part, how often)."""
    texts = {
        name: (
            text if isinstance(text, str) else "".join(part * times for part, times in text)
        ).encode("utf-8")
        for name, text in values["text"].items()
    }
    return texts | {name: base64.b64decode(data) for name, data in values["base64"].items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Send what libraries in C print to nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(2)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)
