"""Import Kaldi data directories (kaldi-asr.org/doc/data_prep.html): wav.scp, text and others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmtune.data.manifest import MAX_LINE
from mmtune.errors import DataError
from mmtune.speech.corpus.importers.piece import (
    Found,
    ImportOptions,
    LeftOut,
    Piece,
    filled,
    split_of,
    stated,
)
from mmtune.system.stored import opened_text, reason_of, short_lines

GENDERS = {"m": "male", "f": "female"}


def folders_in(source: Path) -> list[Path]:
    """Return the data directories: the source itself, or its direct subfolders."""
    if (source / "wav.scp").is_file():
        return [source]
    return sorted(path.parent for path in source.glob("*/wav.scp"))


def import_kaldi(source: Path, options: ImportOptions) -> Found:
    """Read wav.scp, text and, if present, segments, utt2spk, spk2gender, utt2lang and channels.

    An entry of wav.scp may be a command that Kaldi would run. This importer never runs one.
    """
    for folder in folders_in(source):
        yield from _folder(folder, options)


def _folder(folder: Path, options: ImportOptions) -> Found:
    twice: list[LeftOut] = []

    def read(name: str, words: bool = False) -> dict[str, str]:
        found, repeated = _table(folder / name, words)
        twice.extend(
            LeftOut(f"{folder.name}/{name} {key}", "the key has several lines", "keep one of them")
            for key in repeated
        )
        return found

    recordings = read("wav.scp")
    if not (folder / "text").is_file():
        raise DataError(f"{folder} has no file 'text'", "add it: it holds the transcripts")
    texts = read("text", words=True)
    speakers, genders, languages = (read(name) for name in ("utt2spk", "spk2gender", "utt2lang"))
    sides = {key: line.split()[-1:] for key, line in read("reco2file_and_channel").items()}
    split = split_of(folder.name)
    segments = folder / "segments"
    spans = read("segments") if segments.is_file() else {key: key for key in recordings}
    yield from twice
    for key in sorted(texts.keys() - spans.keys()):
        where = f"{folder.name}/text {key}"
        source = "segments" if segments.is_file() else "wav.scp"
        yield LeftOut(where, f"{source} has no such entry", "add it, or remove the line")
    for key, span in spans.items():
        where = f"{folder.name}/{'segments' if segments.is_file() else 'wav.scp'} {key}"
        words = span.split()
        recording = words[0] if words else ""
        if key not in texts:
            yield LeftOut(where, f"'text' has no line for {key!r}", "add it, or remove the entry")
            continue
        path = recordings.get(recording)
        if path is None:
            yield LeftOut(where, f"wav.scp has no recording {recording!r}", "add it to wav.scp")
            continue
        if (reason := _refused(path)) is not None:
            yield LeftOut(where, *reason)
            continue
        try:
            start, end = (float(words[1]), float(words[2])) if len(words) >= 3 else (0.0, -1.0)
        except ValueError:
            yield LeftOut(
                where, f"{span!r} has no times", "write 'utterance recording start end' there"
            )
            continue
        file = Path(path)
        side = "".join(sides.get(recording, []))
        speaker = stated(speakers.get(key))
        gender = genders.get(speaker or "")
        yield Piece(
            file if file.is_absolute() else _beside(folder, file),
            recording,
            texts[key],
            where,
            start=start,
            end=None if end < 0 else end,  # -1: to the recording's end
            channel={"A": 0, "B": 1, "1": 0, "2": 1}.get(side),
            id=key,
            row=filled(
                speaker=speaker,
                language=stated(languages.get(key)) or options.language,
                split=split,
            ),
            group=filled(gender=GENDERS.get(gender or "", gender)),
        )


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


def _beside(folder: Path, path: Path) -> Path:
    # Kaldi recipes write paths relative to the folder they run in, usually two above data/train.
    places = [folder, folder.parent, folder.parent.parent]
    return next((place / path for place in places if (place / path).is_file()), folder / path)


def _table(path: Path, words: bool = False) -> tuple[dict[str, str], list[str]]:
    """Read the lines of a file by key; also return the keys with several lines that differ."""
    found: dict[str, str] = {}
    repeated: dict[str, None] = {}
    for key, value in _lines(path, words):
        if found.setdefault(key, value) != value:
            repeated[key] = None
    for key in repeated:
        del found[key]
    return found, list(repeated)


def _lines(path: Path, words: bool = False) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    try:
        with opened_text(path) as file:
            for line in short_lines(file, MAX_LINE):
                key, _, rest = line.strip().partition(" ")
                if "\t" in key:
                    key, _, rest = line.strip().partition("\t")
                if key and (rest or words):
                    yield key, rest.strip()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read: {reason_of(error)}", "save it as UTF-8 text"
        ) from None
