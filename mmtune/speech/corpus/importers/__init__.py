"""Import speech data: recognise its layout, read it with that layout's importer, and write it.

Each layout has a file with a function (source, options) -> pieces; `write` writes the pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmtune.data.importing import Imported
from mmtune.data.ledger import Guess, Ledger, Reason
from mmtune.data.manifest import scan_files
from mmtune.data.text_beside import text_beside
from mmtune.errors import ConfigError, DataError, did_you_mean
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers import huggingface, kaldi, subtitles, table, transcripts
from mmtune.speech.corpus.importers.joint import divided
from mmtune.speech.corpus.importers.piece import Found, ImportOptions, LeftOut, Piece
from mmtune.speech.corpus.importers.stored_transcript import is_transcript
from mmtune.speech.corpus.importers.subtitle_names import SUFFIXES
from mmtune.speech.corpus.importers.write import layout_in, write
from mmtune.system.inside import inside, links_out
from mmtune.system.stored import is_file, opened


@dataclass(frozen=True)
class Layout:
    """A layout of data: a function that recognises it, and a function that reads it."""

    recognises: Callable[[Path], bool]
    pieces: Callable[[Path, ImportOptions], Found]


def _common_voice(source: Path) -> bool:
    if source.is_file():
        return source.suffix.lower() == ".tsv" and _heads(source)
    tables = [source / name for name in (*table.RELEASED, "validated.tsv")]
    return any(inside(source, path) is not None and _heads(path) for path in tables)


def _heads(path: Path) -> bool:
    with opened(path) as file:
        names = file.readline(10_000).decode("utf-8-sig", "replace").split()
    return set(table.COMMON_VOICE) <= set(names)


def _saved(source: Path) -> bool:
    if source.is_file():
        return source.suffix.lower() == ".parquet"
    return huggingface.is_saved(source) or any(
        path.name != "metadata.parquet" for path in huggingface.parquet_in(source)
    )


def _tabled(source: Path) -> bool:
    tables = [source] if source.is_file() else table.tables_in(source)
    folder = source if source.is_dir() else None
    return any(
        path.suffix.lower() in table.TABLES
        and not (path.suffix.lower() == ".json" and is_transcript(path, folder))
        for path in tables
    )


def _subtitled(source: Path) -> bool:
    if source.is_file():
        suffix = source.suffix.lower()
        return suffix in (".vtt", ".srt") or (suffix == ".json" and is_transcript(source))
    return any(
        path.suffix.lower() != ".json" or is_transcript(source / path, source)
        for _, path in scan_files(source, SUFFIXES)
    )


def _transcribed(source: Path) -> bool:
    return source.is_dir() and any(
        text_beside(source / path).is_file() for _, path in scan_files(source, SPEECH_SUFFIXES)
    )


# In the order in which they are tried: the most certain marks first.
LAYOUTS: dict[str, Layout] = {
    "kaldi": Layout(lambda s: s.is_dir() and bool(kaldi.folders_in(s)), kaldi.import_kaldi),
    "commonvoice": Layout(_common_voice, table.import_common_voice),
    "huggingface": Layout(_saved, huggingface.import_huggingface),
    "audiofolder": Layout(
        lambda s: s.is_dir() and bool(table.metadata_in(s)), table.import_audiofolder
    ),
    "table": Layout(_tabled, table.import_table),
    "subtitles": Layout(_subtitled, subtitles.import_subtitles),
    "transcripts": Layout(_transcribed, transcripts.import_transcripts),
}


# Layouts whose texts people write: "Agent: …" names a speaker.
LABELLED = ("audiofolder", "table", "transcripts")
# Layouts with columns, whose names the user may give.
COLUMNED = ("commonvoice", "huggingface", "audiofolder", "table")


def recognise(source: Path) -> str | None:
    """Recognise the layout of a file or folder by its content; None if it is unknown.

    A dataset of pictures is unknown, although its JSON files look like tables.
    """
    if huggingface.holds_pictures_only(source):
        return None
    return next((name for name, each in LAYOUTS.items() if each.recognises(source)), None)


def import_speech(
    source: Path,
    to: Path,
    layout: str | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    dry: bool = False,
) -> Imported:
    """Write the data of another layout as a folder that mmtune checks and trains on.

    Args:
        source: a file or folder in one of `LAYOUTS`.
        to: the new folder; repeating an import into it is cheap and changes nothing.
        layout: name of the layout; None takes that of an earlier import of the same source into
            `to`, or recognises it by the content.
        settings: fields of `ImportOptions`.
        progress: called with the number of rows so far.
        dry: write nothing; the result says what would be written.

    Raises:
        ConfigError: a layout or setting is unknown, or `to` can't be used.
        DataError: the source can't be read at all, or a link leads out of it. Single bad rows are
            left out and listed.
    """
    try:
        options = ImportOptions.model_validate(dict(settings or {}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        setting = ".".join(map(str, problem["loc"][:1]))
        raise ConfigError(f"--{setting}: {problem['msg']}", "see `mmtune import --help`") from None
    if options.align and options.base is None:
        raise ConfigError("--align needs a model", "add --base, such as starter:whisper-base")
    if not source.exists():
        raise DataError(f"no such file or folder: {source}", "name the data to import")
    if source.is_dir() and to.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{to} is inside {source}", "choose a folder outside of it: --to DIR")
    if source.resolve().is_relative_to(to.resolve()):
        raise ConfigError(
            f"{source} is inside {to}, and an import replaces files there",
            "choose another folder: --to DIR",
        )
    known = ", ".join(LAYOUTS)
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"unknown format {layout!r}", did_you_mean(layout, list(LAYOUTS)))
    name = layout or earlier_layout(source, to) or recognise(source)
    if name is None:
        raise DataError(
            f"the format of {source} was not recognised",
            f"name it with --format; known formats: {known}",
        )
    if options.columns and name not in COLUMNED:
        raise ConfigError(
            f"--{next(iter(options.columns))}-column has no effect: format {name} has no columns",
            "leave it out",
        )
    for option, given in (("audio-dir", options.audio_dir), ("recordings", options.recordings)):
        if given and not Path(given).is_dir():
            raise ConfigError(f"--{option} {given}: no such folder", "name the recordings' folder")
    if options.audio_dir and to.resolve().is_relative_to(Path(options.audio_dir).resolve()):
        raise ConfigError(
            f"{to} is inside {options.audio_dir}", "choose a folder outside of it: --to DIR"
        )
    facts = {"source": str(source), "format": name, **options.model_dump(exclude_defaults=True)}
    folder = source if source.is_dir() else source.parent
    ledger = Ledger([source] if source.is_dir() else [], folder)
    if options.audio_dir:
        ledger.add_folder(Path(options.audio_dir))
    if options.recordings:
        # It may hold more than the recordings: other files there aren't part of the source.
        ledger.add_folder(Path(options.recordings), SPEECH_SUFFIXES, without=to)
    if layout is None:
        ledger.guess(Guess("format", name, f"the content of {source.name}", first=source.name))
    return write(
        read_pieces(source, options, name),
        to,
        facts,
        options,
        progress,
        ledger=ledger,
        reason_of=partial(_reason_of, layout=name),
        dry=dry,
    )


def read_pieces(source: Path, options: ImportOptions, layout: str | None = None) -> Found:
    """Read the pieces of a file or folder, divided by speaker and channel, without writing them.

    Args:
        source: a file or folder in one of `LAYOUTS`.
        options: settings of the import.
        layout: name of the layout; None recognises it by the content.

    Raises:
        DataError: the source can't be read at all, its layout is unknown, or a link leads out of
            it.
    """
    name = layout or recognise(source) if source.exists() else None
    if name is None:
        raise DataError(
            f"the format of {source} was not recognised"
            if source.exists()
            else f"no such file or folder: {source}",
            f"name a file or folder in one of these formats: {', '.join(LAYOUTS)}",
        )
    folders = [source if source.is_dir() else source.parent]
    folders += [Path(each) for each in (options.recordings, options.audio_dir) if each]
    for link in links_out(source, folders[1:]) if source.is_dir() else ():
        raise DataError(
            f"{link} is a link that leads out of {source}",
            f"copy the data with its files (cp -rL {source} COPY), or allow the folder that the "
            "link leads to: --recordings DIR",
        )
    found = _bounded(LAYOUTS[name].pieces(source, options), folders)
    return divided(found, options, labels=name in LABELLED)


def _reason_of(path: Path, layout: str) -> Reason | None:
    """Why a layout doesn't use a file; None for files that no layout reads."""
    suffix = path.suffix.lower()
    elsewhere = f"read it alone, if it describes recordings: mmtune import {path} --to DIR"
    if suffix in SPEECH_SUFFIXES:
        found = "no row, cue or transcript that is used describes this recording"
        return Reason("unused-recording", found, "describe it, or remove it")
    if suffix in (*table.TABLES, ".parquet"):
        return Reason("unused-table", f"the format {layout} doesn't read it", elsewhere)
    if suffix in SUFFIXES or suffix == ".txt":
        kind = "unused-text" if suffix == ".txt" else "unused-subtitles"
        found = f"the format {layout} doesn't read it, or no recording has its name"
        return Reason(kind, found, "give it the name of its recording, or remove it")
    return None


def earlier_layout(source: Path, to: Path) -> str | None:
    """The layout of an earlier import of a source into a folder, if the source still has it.

    A file that is added to a source may look like another layout, and all rows would change.
    """
    name = layout_in(to, source)
    return name if name in LAYOUTS and LAYOUTS[name].recognises(source) else None


def _bounded(found: Found, folders: Sequence[Path]) -> Found:
    """Leave out the pieces whose recording lies outside of all `folders`."""
    for item in found:
        if (
            isinstance(item, Piece)
            and isinstance(file := item.file, Path)
            and is_file(file)
            and not any(inside(folder, file) for folder in folders)
        ):
            yield LeftOut(
                item.where,
                f"{file} lies outside of {folders[0]}",
                f"allow the folder of the recordings: --recordings {file.parent}",
                file=item.table or str(file),
                items=item.items if item.table else 0,
            )
        else:
            yield item


__all__ = ["LAYOUTS", "ImportOptions", "LeftOut", "import_speech", "recognise"]
