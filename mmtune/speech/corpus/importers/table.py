"""Import tables: Common Voice, CSV and TSV, NeMo's JSONL, Hugging Face's audiofolder.

Columns are recognised by the names that other tools use (`SpeechRow.synonyms`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

from mmtune.data.manifest import MAX_LINE
from mmtune.errors import DataError
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.columns import (
    columns,
    names_of_files,
    seconds,
    times_of_original,
)
from mmtune.speech.corpus.importers.delimited import dialect_of, read_delimited
from mmtune.speech.corpus.importers.piece import (
    Found,
    Guess,
    ImportOptions,
    LeftOut,
    Piece,
    Used,
    filled,
    split_of,
    stated,
)
from mmtune.speech.corpus.importers.places import Places
from mmtune.speech.corpus.speaker_labels import ROLE
from mmtune.speech.speech_row import DESCRIPTIVE
from mmtune.system.stored import lines_up_to, opened, reason_of

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
COMMON_VOICE = ("client_id", "path", "sentence")
RELEASED = ("train.tsv", "dev.tsv", "test.tsv")  # Common Voice's own split of validated.tsv
HEAD = 200  # rows of a table that tell what its times mean


def import_common_voice(source: Path, options: ImportOptions) -> Found:
    """Read a Common Voice release: clips/ with train.tsv, dev.tsv, test.tsv or validated.tsv."""
    if source.is_file():
        tables, root = [source], source.parent
    else:
        root = source
        tables = [source / name for name in RELEASED if (source / name).is_file()]
        if not tables:
            tables = [path for path in [source / "validated.tsv"] if path.is_file()]
    if not tables:
        raise DataError(
            f"{source} has none of {', '.join(RELEASED)} and validated.tsv",
            "name the table file itself, or use --format table",
        )
    for table in tables:
        split = split_of(table.stem)
        # Common Voice writes without quoting: a sentence may begin with a quotation mark.
        lines = read_delimited(table, separator="\t", quoted=False, encoding=options.encoding)
        yield from dialect_of(table, "\t", options.encoding)
        found = pieces(lines, table, root, options, {"split": split} if split else {})
        yield from named_by(found, f"the name of {table.name}")


def import_table(source: Path, options: ImportOptions) -> Found:
    """Read CSV, TSV or JSONL files with a column of paths and a column of transcripts."""
    tables = [source] if source.is_file() else tables_in(source)
    for table in tables:
        split = split_of(table.stem)
        found = _pieces_of(table, options, {"split": split} if split else {})
        yield from named_by(found, f"the name of {table.name}")


def import_audiofolder(source: Path, options: ImportOptions) -> Found:
    """Read Hugging Face's audiofolder: metadata.csv, .jsonl or .parquet with file_name."""
    for table in metadata_in(source):
        # The nearest folder with the name of a split decides the split (as in `datasets`).
        names = [
            part.name
            for part in (table.parent, *table.parent.parents)
            if part == source or part.is_relative_to(source)
        ]
        name = next((name for name in names if split_of(name)), "")
        split = split_of(name)
        found = _pieces_of(table, options, {"split": split} if split else {})
        yield from named_by(found, f"the name of the folder {name}")


def tables_in(folder: Path) -> list[Path]:
    """Return the table files of a folder, without its subfolders.

    call.json beside call.wav is about this recording, and no table.
    """
    files = [path for path in folder.iterdir() if path.is_file()]
    stems = {path.stem for path in files if path.suffix.lower() in SPEECH_SUFFIXES}
    return sorted(
        path
        for path in files
        if path.suffix.lower() in TABLES and not (path.suffix == ".json" and path.stem in stems)
    )


def metadata_in(folder: Path) -> list[Path]:
    """Return the metadata files of an audiofolder and its subfolders."""
    names = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
    return sorted(path for name in names for path in folder.rglob(name))


def _pieces_of(table: Path, options: ImportOptions, fixed: Mapping[str, Any]) -> Found:
    if table.suffix.lower() in TABLES[:2]:
        yield from dialect_of(table, _separator(table), options.encoding)
    lines = read_table(table, options.encoding)
    again = partial(read_table, table, options.encoding) if table.suffix != ".parquet" else None
    yield from pieces(lines, table, table.parent, options, fixed, again)


def named_by(found: Found, source: str) -> Found:
    """Say for each piece what its split was taken from, where its row doesn't state it."""
    for item in found:
        if isinstance(item, Piece) and item.guessed:
            yield replace(item, guessed=dict.fromkeys(item.guessed, source))
        else:
            yield item


def read_table(table: Path, encoding: str | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a table, each with its place for messages.

    Args:
        table: CSV, TSV, JSONL or parquet.
        encoding: of CSV and TSV; None takes that of a byte order mark, or UTF-8.

    Raises:
        DataError: the file can't be read as a table.
    """
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        from mmtune.speech.corpus.importers.parquet import read_parquet

        yield from read_parquet(table)
    elif suffix in (".jsonl", ".ndjson", ".json"):
        yield from _objects(table)
    else:
        yield from read_delimited(
            table, separator=_separator(table), encoding=encoding, begins_row=_names_recording
        )


def _separator(table: Path) -> str | None:
    return "\t" if table.suffix.lower() == ".tsv" else None


def pieces(
    lines: Iterable[tuple[str, Mapping[str, Any]]],
    table: Path,
    root: Path,
    options: ImportOptions,
    fixed: Mapping[str, Any],
    again: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]] | None = None,
) -> Found:
    """Yield the pieces that the rows of a table describe.

    Args:
        lines: rows by column, each with its place.
        table: the file that holds them; of a dataset in several files, its folder.
        root: the folder that paths are relative to.
        options: settings of the import.
        fixed: fields for all rows that don't set them.
        again: reads the rows again, to tell whether a file's name is that of one row alone.
    """
    places = Places(root, Path(options.audio_dir) if options.audio_dir else None)
    names = cache(lambda: names_of_files(again() if again else (), places))
    lines = iter(lines)
    head = list(islice(lines, HEAD))
    count = 0
    original = times_of_original(head, places)
    if original:
        yield LeftOut(
            table.name,
            f"its columns {' and '.join(original)} are times in the recordings that its clips were "
            "cut from, because they lie beyond the clips' ends",
            "no action is needed: whole clips are used",
            "original-times",
            "note",
        )
    rows = chain(head, lines)
    for where, values in rows:
        count += 1
        line = partial(LeftOut, where, file=str(table), items=1)
        if "" in values and len(values) == 1:
            yield line(str(values[""]), "correct the line", "bad-line")
            continue
        named = {k: v for k, v in columns(values).items() if v not in original}
        missing = [name for name in ("audio", "text") if name not in named]
        if missing:
            # In CSV and TSV the other lines have the same columns.
            rest = sum(1 for _ in rows) if table.suffix.lower() in (".csv", ".tsv") else 0
            count += rest
            yield LeftOut(
                where,
                f"{table} has no column for {' and '.join(missing)}; its columns are "
                + ", ".join(map(str, list(values)[:12])),
                "name the columns audio and text, or use the names of NeMo, Common Voice or "
                "Hugging Face",
                "no-column",
                file=str(table),
                items=1 + rest,
            )
            continue
        item = _piece(where, values, named, places, options, fixed)
        if isinstance(item, Piece) and isinstance(item.file, Path):
            found = places.find(item.recording)
            if not found.path:
                item = line(*places.missing(item.recording), "missing")
            elif found.by_name and (others := names().get(found.path, set()) - {item.recording}):
                item = line(
                    f"{item.recording} was found only by the end of its path, and other rows "
                    f"name the same file: {', '.join(sorted(others)[:3])}",
                    "keep the files' folders, and name the folder above them: --audio-dir DIR",
                    "ambiguous",
                )
            elif found.how:
                yield Guess("place", found.how, f"where {table.name}'s files are", first=where)
        if isinstance(item, LeftOut):
            item = replace(item, file=str(table), items=1)
        else:
            item = replace(item, table=str(table))
        yield item
    if count:
        yield Used(table, count)
    else:
        cure = "check that it is the right file"
        yield LeftOut(table.name, "the table holds no rows", cure, "empty-table", file=str(table))


def _names_recording(cells: Sequence[str]) -> bool:
    return any(PurePath(cell.strip()).suffix.lower() in SPEECH_SUFFIXES for cell in cells)


def _piece(
    where: str,
    values: Mapping[str, Any],
    named: Mapping[str, str],
    places: Places,
    options: ImportOptions,
    fixed: Mapping[str, Any],
) -> Piece | LeftOut:
    def value(name: str) -> Any:
        return values.get(named[name]) if name in named else None

    try:
        start, end, length = (seconds(value(name)) for name in ("start", "end", "duration_s"))
    except ValueError as error:
        return LeftOut(where, str(error), "write seconds, such as 12.5, or 0:12.5")
    if end is None and start is not None and length is not None:
        end, length = start + length, None  # NeMo's offset and duration
    audio, text = value("audio"), value("text")
    file: Path | bytes
    if isinstance(audio, Mapping):  # Hugging Face's undecoded audio
        name = str(audio.get("path") or where)
        data = audio.get("bytes")
        file = data if isinstance(data, bytes) else places.find(name).path or Path(name)
    elif audio in (None, ""):
        return LeftOut(where, "the row names no file", "name the file, or remove the row")
    else:
        name = str(audio)
        file = places.find(name).path or Path(name)
    group = {
        key: str(values[column])
        for key in DESCRIPTIVE
        for column in (key, f"{key}s")  # Common Voice: accents
        if stated(values.get(column)) is not None and (key != "channel" or not _is_number(values))
    }
    split = split_of(str(value("split"))) if value("split") else None
    row = dict(fixed) | filled(
        speaker=stated(value("speaker")),
        language=stated(value("language")) or options.language,
        split=split,
        prompt=_text(value("prompt")),
        terms=_terms(value("terms")),
        duration_s=length if start is None and end is None else None,
    )
    number = value("channel")
    people = {  # the columns agent and customer name the people behind "Agent:" and "Customer:"
        str(column).strip().casefold(): who
        for column in values
        if (ROLE.fullmatch(str(column).strip()) or str(column).casefold() in options.speakers)
        and column not in named.values()
        and (who := stated(values[column])) is not None
    }
    return Piece(
        file,
        name,
        "" if text is None else str(text),
        where,
        start=start or 0.0,
        end=end,
        channel=number if number == "mix" else int(number) if _is_number(values, number) else None,
        id=_text(value("id")) or "",
        row=row,
        group=group,
        people=people,
        guessed={name: "" for name in fixed if name != "split" or split is None},
    )


def _is_number(values: Mapping[str, Any], number: Any = None) -> bool:
    word = str(values.get("channel") if number is None else number).strip()
    return word == "mix" or (word.isascii() and word.isdigit() and len(word) < 3)


def _text(value: Any) -> str | None:
    return None if value is None or not str(value).strip() else str(value).strip()


def _terms(value: Any) -> tuple[str, ...]:
    words = value if isinstance(value, list | tuple) else str(value or "").split(";")
    return tuple(word for each in words if (word := str(each).strip()))


def _objects(table: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with opened(table) as file:
            for number, line in enumerate(lines_up_to(file, MAX_LINE), start=1):
                where = f"{table.name} line {number}"
                if not line.strip():
                    continue
                try:
                    if len(line) > MAX_LINE:
                        raise ValueError(f"it has more than {MAX_LINE:,} bytes")
                    values = json.loads(line.decode("utf-8-sig"))
                    if not isinstance(values, dict):
                        raise ValueError(f"a JSON {type(values).__name__}, not an object")
                except (ValueError, RecursionError) as error:
                    yield where, {"": f"the line is no row: {error}"}
                    continue
                yield where, values
    except OSError as error:
        raise DataError(
            f"{table} can't be read: {reason_of(error)}", "check the file, or name another table"
        ) from None
