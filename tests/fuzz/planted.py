"""Bugs put into parsers, which the fuzzing must find: it shows what the fuzzing can see.

Each is what a parser gets wrong in practice: a check that was forgotten, an exception of a library
that escapes, a loop without an end, memory without a limit, a file or an address that an input
names.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Wrapped = Callable[..., Any]


@dataclass(frozen=True)
class Bug:
    """A bug and where it is put.

    Attributes:
        target: the fuzzing target that can reach it.
        module: of mmtune or a library.
        name: the function, dotted in a class.
        change: makes the function with the bug from the one without.
        sign: a part of the finding that shows that it was this bug.
    """

    target: str
    module: str
    name: str
    change: Callable[[Wrapped], Wrapped]
    sign: str

    def plant(self) -> None:
        """Put the bug into this process, for as long as it lives."""
        owner: Any = importlib.import_module(self.module)
        *path, last = self.name.split(".")
        for each in path:
            owner = getattr(owner, each)
        setattr(owner, last, self.change(getattr(owner, last)))


def first(check: Callable[..., Any]) -> Callable[[Wrapped], Wrapped]:
    """Call `check` with the arguments before the function."""

    def change(real: Wrapped) -> Wrapped:
        def changed(*arguments: Any, **named: Any) -> Any:
            check(*arguments, **named)
            return real(*arguments, **named)

        return changed

    return change


def after(check: Callable[[Any], Any]) -> Callable[[Wrapped], Wrapped]:
    """Call `check` with what the function returns."""

    def change(real: Wrapped) -> Wrapped:
        def changed(*arguments: Any, **named: Any) -> Any:
            value = real(*arguments, **named)
            check(value)
            return value

        return changed

    return change


class Planted(Exception):
    """What a bug raises; no handler of mmtune knows it."""


def _when(true: Any) -> None:
    if true:
        raise Planted


def _spin(true: Any) -> None:
    while true:
        pass


def _fill(true: Any) -> None:
    if true:
        bytearray(4 * 2**30)


def _read(path: str) -> None:
    Path(path).read_bytes()


def _call(true: Any) -> None:
    import socket

    if true:
        with socket.socket() as made:
            made.settimeout(0.1)
            made.connect(("127.0.0.1", 9))


def _opens_caption(path: Path, *rest: Any) -> None:
    """Reads a caption through a link without a look at where it leads."""
    if path.is_symlink():
        path.read_bytes()


PLACES = "mmtune.speech.corpus.importers.places"
CELLS, SUBTITLES = (
    "mmtune.speech.corpus.importers.cells",
    "mmtune.speech.corpus.importers.subtitles",
)
CUES = "mmtune.speech.corpus.importers.cues"
KALDI, PICTURE = "mmtune.speech.corpus.importers.kaldi", "mmtune.image.pictures.picture"
MANIFEST, CAPTIONS = "mmtune.data.manifest", "mmtune.image.corpus.caption_files"
METADATA = "mmtune.image.corpus.caption_metadata"
READ, SNDFILE = "mmtune.speech.sound.read", "mmtune.speech.sound.sndfile"
TERMS = "mmtune.speech.corpus.term_list"

BUGS: dict[str, Bug] = {
    "manifest: a key that occurs twice": Bug(
        "manifest", MANIFEST, "parse_line",
        first(lambda line: _when(line.count(b'"id":') > 1 or line.count(b'"text":') > 1)),
        "Planted",
    ),
    "manifest: a number beyond a float": Bug(
        "manifest", MANIFEST, "parse_line",
        after(lambda row: _when(any(v == float("inf") for v in row.values()))), "Planted",
    ),
    "manifest: an endless loop on a long line": Bug(
        "manifest", MANIFEST, "parse_line", first(lambda line: _spin(len(line) > 25_000)), "no end",
    ),
    "table: a time of four parts": Bug(
        "table", CELLS, "seconds", first(lambda value: _when(str(value).count(":") > 2)),
        "Planted",
    ),
    "table: a field that is a list": Bug(
        "table", CELLS, "words", first(lambda value, _: _when(isinstance(value, list))), "Planted",
    ),
    "table: an address in a cell is fetched": Bug(
        "table", PLACES, "Places.find", first(lambda self, name: _call(name.startswith("http"))),
        "network",
    ),
    "table: a path outside of the folder is opened": Bug(
        "table", PLACES, "Places.find",
        first(lambda self, name: _read("/etc/passwd") if "passwd" in name else None), "opened",
    ),
    "kaldi: a command of wav.scp is run": Bug(
        "kaldi", KALDI, "_refused",
        first(lambda path: _run_program() if path.endswith("|") else None), "started a program",
    ),
    "kaldi: an utterance with a speaker and a language": Bug(
        "kaldi", KALDI, "filled", first(lambda **v: _when(v.get("language") == "en"
                                                          and "speaker" in v)), "Planted",
    ),
    "subtitles: a cue that ends before it starts": Bug(
        "subtitles", SUBTITLES, "Cue",
        first(lambda start, end, *rest, **more: _when(end < start)), "Planted",
    ),
    "subtitles: more cues than two voices take turns": Bug(
        "subtitles", CUES, "join", first(lambda cues, *rest: _when(len(cues) > 3)), "Planted",
    ),
    "captions: a link is followed": Bug(
        "image folder", CAPTIONS, "read_captions", first(_opens_caption), "opened",
    ),
    "metadata: a file name without a suffix": Bug(
        "image folder", METADATA, "PurePosixPath", first(lambda file: _when("." not in file)),
        "Planted",
    ),
    "term list: a line longer than a term": Bug(
        "term list", TERMS, "_is_term", first(lambda text, language: _when(len(text) > 100)),
        "Planted",
    ),
    "sound: a chunk that claims 2 GiB takes the memory": Bug(
        "sound", SNDFILE, "_sound_chunk_end", after(lambda end: _fill((end or 0) > 2**31 - 1)),
        "MemoryError",
    ),
    "sound: more channels than two, or a rate below 1 kHz": Bug(
        "sound", READ, "locate",
        first(lambda path, info, span: _when(info.channels > 2 or info.rate < 1000)), "Planted",
    ),
    "picture: an image higher than wide": Bug(
        "picture", PICTURE, "Picture.flattened",
        first(lambda self, *rest: _when(self.image.height > self.image.width)), "Planted",
    ),
    "picture: grey with transparency": Bug(
        "picture", PICTURE, "_colours", first(lambda image: _when(image.mode == "LA")), "Planted",
    ),
    "recipe: a number without end": Bug(
        "recipe", "mmtune.runs.recipes", "build",
        first(lambda values, *rest: _when(_has_infinite(values))), "Planted",
    ),
    "tensors: a header without offsets": Bug(
        "safetensors", "mmtune.prefix.cache", "_read",
        first(lambda path: _when(b'"data_offsets"' not in path.read_bytes()[:2000])), "Planted",
    ),
}  # fmt: skip


def _run_program() -> None:
    import subprocess

    subprocess.run(["true"], check=False)


def _has_infinite(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_infinite(each) for each in value.values())
    return isinstance(value, float) and math.isinf(value)
