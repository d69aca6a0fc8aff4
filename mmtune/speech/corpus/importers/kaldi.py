"""Import Kaldi data directories (kaldi-asr.org/doc/data_prep.html): wav.scp, text and others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from mmtune.data.ledger import is_litter
from mmtune.data.manifest import MAX_LINE
from mmtune.errors import DataError
from mmtune.speech.corpus.importers.piece import (
    Found,
    ImportOptions,
    LeftOut,
    Piece,
    Used,
    filled,
    split_of,
    stated,
    unless_unreadable,
)
from mmtune.speech.sound.read import AudioFault, probe
from mmtune.system.pointers import require_content
from mmtune.system.stored import is_file, opened_text, reason_of, short_lines

GENDERS = {"m": "male", "f": "female"}
SIDES = {"A": 0, "B": 1, "1": 0, "2": 1}  # of reco2file_and_channel


def folders_in(source: Path) -> list[Path]:
    """Return the data directories: the source itself, or its direct subfolders."""
    if (source / "wav.scp").is_file():
        return [source]
    folders = (path.parent for path in source.glob("*/wav.scp"))
    return sorted(folder for folder in folders if not is_litter(folder.name))


def import_kaldi(source: Path, options: ImportOptions) -> Found:
    """Read wav.scp, text and, if present, segments, utt2spk, spk2gender, utt2lang and channels.

    An entry of wav.scp may be a command that Kaldi would run. This importer never runs one.
    """
    folders = folders_in(source)
    for folder in folders:
        yield from unless_unreadable(_folder(folder, options), folder, alone=len(folders) == 1)


def _folder(folder: Path, options: ImportOptions) -> Found:
    if not (folder / "text").is_file():
        raise DataError(f"{folder} has no file 'text'", "add it: it holds the transcripts")
    recordings, texts = KaldiFile(folder / "wav.scp"), KaldiFile(folder / "text", words=True)
    names = ("utt2spk", "spk2gender", "utt2lang", "reco2file_and_channel")
    speakers, genders, languages, sides = (KaldiFile(folder / name) for name in names)
    split = split_of(folder.name)
    segmented = (folder / "segments").is_file()
    spans = KaldiFile(folder / "segments") if segmented else recordings
    files = [texts, recordings, speakers, genders, languages, sides]
    files += [spans] if segmented else []
    several = cache(_has_channels)
    for each in files:
        yield from each.problems
    for key in sorted(texts.values.keys() - spans.values.keys()):
        yield texts.left_out(key, f"{spans.name} has no such entry", "add it, or remove the line")
    for key, span in spans.values.items():
        where = f"{folder.name}/{spans.name} {key}"
        words = span.split() if segmented else [key]
        recording = words[0] if words else ""
        if key not in texts.values:
            found = f"'text' has no line for {key!r}"
            yield spans.left_out(key, found, "add it, or remove the entry")
            continue
        spans.asked.add(key)
        path = recordings.get(recording)
        if path is None:
            found = f"wav.scp has no recording {recording!r}"
            yield texts.left_out(key, found, "add it to wav.scp", where)
            continue
        if (reason := _refused(path)) is not None:
            yield texts.left_out(key, *reason, where)
            continue
        try:
            start, end = (float(words[1]), float(words[2])) if len(words) >= 3 else (0.0, -1.0)
        except ValueError:
            cure = "write 'utterance recording start end' there"
            yield texts.left_out(key, f"{span!r} has no times", cure, where)
            continue
        file = Path(path)
        file = file if file.is_absolute() else _beside(folder, file)
        side = "".join((sides.get(recording) or "").split()[-1:])
        # Recipes also name the sides of calls that they have divided into files of one channel.
        if side and several(file) and side not in SIDES:
            found = f"reco2file_and_channel gives {recording!r} the side {side!r}"
            yield texts.left_out(key, found, "write A or B there", where)
            continue
        speaker = stated(speakers.get(key))
        gender = genders.get(speaker) if speaker else None
        yield Piece(
            file,
            recording,
            texts.values[key],
            where,
            start=start,
            end=None if end < 0 else end,  # -1: to the recording's end
            channel=SIDES[side] if side and several(file) else None,
            id=key,
            row=filled(
                speaker=speaker,
                language=stated(languages.get(key)) or options.language,
                split=split,
            ),
            group=filled(gender=GENDERS.get(gender or "", gender)),
            table=str(texts.path),
            items=texts.count[key],
            guessed={"split": f"the name of the folder {folder.name}"},
        )
    for each in files:
        yield from each.unused() if each is not texts else ()
        # Of `text` the pieces say which lines they use.
        used = None if each is texts else sum(each.count[key] for key in each.asked)
        if each.lines:
            yield Used(each.path, each.lines, used)


class KaldiFile:
    """A file of Kaldi, whose lines begin with a key; it knows which of its lines were used.

    Args:
        path: the file; a missing one is empty.
        words: whether a key may stand alone, as in `text`.
    """

    def __init__(self, path: Path, words: bool = False) -> None:
        self.path, self.name = path, path.name
        self.values: dict[str, str] = {}
        self.count: Counter[str] = Counter()  # lines by key
        self.asked: set[str] = set()  # keys that were used, or have a finding
        self.problems: list[LeftOut] = []
        self.lines = 0
        repeated: dict[str, None] = {}
        for key, value in _lines(path):
            self.lines += 1
            if not (value or words):
                self.problems.append(self._line(key, "the line has no value", "complete it"))
                continue
            self.count[key] += 1
            if self.values.setdefault(key, value) != value:
                repeated[key] = None
        for key in repeated:
            del self.values[key]
            lines = self.count.pop(key)
            cure = "keep one of them"
            self.problems.append(self._line(key, "the key has several lines", cure, lines))

    def get(self, key: str) -> str | None:
        """Return the value of a key; its line counts as used."""
        if key in self.values:
            self.asked.add(key)
        return self.values.get(key)

    def left_out(self, key: str, found: str, cure: str, where: str = "") -> LeftOut:
        """Leave out the line of a key."""
        lines = self.count.pop(key, 0)
        return self._line(key, found, cure, lines, where)

    def unused(self) -> Iterator[LeftOut]:
        """Yield the lines that no utterance uses."""
        for key in [key for key in self.count if key not in self.asked]:
            found = "no utterance that is imported uses this line"
            yield replace(self.left_out(key, found, "no action is needed"), level="note")

    def _line(self, key: str, found: str, cure: str, lines: int = 1, where: str = "") -> LeftOut:
        where = where or f"{self.path.parent.name}/{self.name} {key}"
        return LeftOut(where, found, cure, file=str(self.path), items=lines)


def _refused(path: str) -> tuple[str, str] | None:
    if path.endswith("|"):
        command = path[:-1].strip()
        return (
            f"the entry is a command, which mmtune doesn't run: {command[:200]}",
            "run it yourself, save its output, and write the file's path into wav.scp",
        )
    name, colon, offset = path.rpartition(":")
    if colon and offset.isdigit() and name.endswith(".ark"):
        return (
            f"the entry is a position in an archive: {path}",
            "unpack the archive: wav-copy scp:wav.scp scp:unpacked.scp",
        )
    return None


def _has_channels(file: Path) -> bool:
    """Whether a recording has several channels; False if it can't be read."""
    try:
        return probe(file).channels > 1
    except AudioFault:  # reading its sound gives the error
        return False


def _beside(folder: Path, path: Path) -> Path:
    # Kaldi recipes write paths relative to the folder they run in, usually two above data/train.
    places = [folder, folder.parent, folder.parent.parent]
    return next((place / path for place in places if is_file(place / path)), folder / path)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    require_content(path)
    try:
        with opened_text(path) as file:
            for line in short_lines(file, MAX_LINE):
                key, _, rest = line.strip().partition(" ")
                if "\t" in key:
                    key, _, rest = line.strip().partition("\t")
                if key:
                    yield key, rest.strip()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read: {reason_of(error)}", "save it as UTF-8 text"
        ) from None
