"""Import tables: Common Voice, CSV and TSV, NeMo's JSONL, Hugging Face's audiofolder.

Columns are recognised by the names that other tools use (`columns.NAMES`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

from mmtune.data.importing import NO_COLUMN
from mmtune.data.ledger import is_litter
from mmtune.data.manifest import scan_files
from mmtune.data.row_rights import NO, consent_in
from mmtune.errors import DataError
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers import cells
from mmtune.speech.corpus.importers.columns import (
    columns,
    folded,
    guessed_columns,
    names_of_files,
    times_of_original,
)
from mmtune.speech.corpus.importers.delimited import dialect_of, read_delimited
from mmtune.speech.corpus.importers.json_rows import read_json
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
    unless_unreadable,
)
from mmtune.speech.corpus.importers.places import Places
from mmtune.speech.corpus.importers.unused_columns import (
    listed,
    require_columns,
    unused_columns,
    unused_in,
)
from mmtune.speech.corpus.speaker_labels import ROLE
from mmtune.speech.speech_row import DESCRIPTIVE
from mmtune.system.contents import SPLITS_FILE
from mmtune.system.pointers import require_content

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
COMMON_VOICE = ("client_id", "path", "sentence")
RELEASED = ("train.tsv", "dev.tsv", "test.tsv")  # Common Voice's own split of validated.tsv
WORDS = ("text", "speaker", "language", "id", "prompt", "subject", "licence", "source")
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
        read = partial(
            read_delimited, table, separator="\t", quoted=False, encoding=options.encoding
        )
        found = chain(
            dialect_of(table, "\t", options.encoding),
            pieces(read, table, root, options, {"split": split} if split else {}),
        )
        named = named_by(found, f"the name of {table.name}")
        yield from unless_unreadable(named, table, alone=len(tables) == 1)


def import_table(source: Path, options: ImportOptions) -> Found:
    """Read CSV, TSV or JSONL files with a column of paths and a column of transcripts."""
    tables = [source] if source.is_file() else tables_in(source)
    for table in tables:
        split = split_of(table.stem)
        found = _pieces_of(table, options, {"split": split} if split else {})
        named = named_by(found, f"the name of {table.name}")
        yield from unless_unreadable(named, table, alone=len(tables) == 1)


def import_audiofolder(source: Path, options: ImportOptions) -> Found:
    """Read Hugging Face's audiofolder: metadata.csv, .jsonl or .parquet with file_name."""
    tables = metadata_in(source)
    for table in tables:
        # The nearest folder with the name of a split decides the split (as in `datasets`).
        names = [
            part.name
            for part in (table.parent, *table.parent.parents)
            if part == source or part.is_relative_to(source)
        ]
        name = next((name for name in names if split_of(name)), "")
        split = split_of(name)
        found = _pieces_of(table, options, {"split": split} if split else {})
        named = named_by(found, f"the name of the folder {name}")
        yield from unless_unreadable(named, table, alone=len(tables) == 1)


def tables_in(folder: Path) -> list[Path]:
    """Return the table files of a folder, without its subfolders.

    call.json beside call.wav is about this recording, and no table.
    """
    files = [path for path in folder.iterdir() if path.is_file() and not is_litter(path.name)]
    stems = {path.stem for path in files if path.suffix.lower() in SPEECH_SUFFIXES}
    return sorted(
        path
        for path in files
        if path.suffix.lower() in TABLES
        and not path.name.endswith(SPLITS_FILE)
        and not (path.suffix.lower() == ".json" and path.stem in stems)
    )


def metadata_in(folder: Path) -> list[Path]:
    """Return the metadata files of an audiofolder and its subfolders."""
    names = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
    files = scan_files(folder, (".csv", ".jsonl", ".parquet"))
    return sorted(folder / path for _, path in files if path.name in names)


def _pieces_of(table: Path, options: ImportOptions, fixed: Mapping[str, Any]) -> Found:
    require_content(table)
    if table.suffix.lower() in TABLES[:2]:
        yield from dialect_of(table, _separator(table), options.encoding)
    yield from pieces(
        partial(read_table, table, options.encoding), table, table.parent, options, fixed
    )


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
        table: CSV, TSV, JSON or parquet.
        encoding: of CSV and TSV; None takes that of a byte order mark, or UTF-8.

    Raises:
        DataError: the file can't be read as a table.
    """
    require_content(table)
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        from mmtune.speech.corpus.importers.parquet import read_parquet

        yield from read_parquet(table)
    elif suffix in (".jsonl", ".ndjson", ".json"):
        yield from read_json(table)
    else:
        yield from read_delimited(
            table, separator=_separator(table), encoding=encoding, begins_row=_names_recording
        )


def _separator(table: Path) -> str | None:
    return "\t" if table.suffix.lower() == ".tsv" else None


def pieces(
    read: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]],
    table: Path,
    root: Path,
    options: ImportOptions,
    fixed: Mapping[str, Any],
) -> Found:
    """Yield the pieces that the rows of a table describe.

    Args:
        read: gives the rows by column, each with its place. It is called again to tell whether a
            file's name is that of one row alone.
        table: the file that holds them; of a dataset in several files, its folder.
        root: the folder that paths are relative to.
        options: settings of the import.
        fixed: fields for all rows that don't set them.

    Raises:
        DataError: the table can't be read to its end.
    """
    folders = (options.audio_dir, options.recordings)
    places = Places(root, *(Path(each) if each else None for each in folders))
    given = options.columns
    names = cache(lambda: names_of_files(read(), places, given))
    lacking: dict[tuple[str, ...], LeftOut] = {}  # by the fields that have no column
    known: set[tuple[str, ...]] = set()  # columns of which was told how they are understood
    unused: dict[str, str] = {}  # columns that no field takes: the first row that fills each
    speakers = False  # whether a column of speakers is known
    count = 0
    failed: DataError | None = None
    try:
        lines = iter(read())
        head = list(islice(lines, HEAD))
        require_columns(table, head, options)
        original = times_of_original(head, places, given)
        if original:
            yield _original_times(table, original)
        for where, values in chain(head, lines):
            count += 1
            if "" in values and len(values) == 1:
                found = str(values[""])
                yield LeftOut(
                    where, found, "correct the line", "bad-line", file=str(table), items=1
                )
                continue
            named = {k: v for k, v in columns(values, given).items() if v not in original}
            missing = tuple(name for name in ("audio", "text") if name not in named)
            if missing:
                first = lacking.get(missing) or _no_column(where, table, values, missing, given)
                lacking[missing] = replace(first, items=first.items + 1)
                continue
            if (keys := tuple(values)) not in known:
                known.add(keys)
                yield from guessed_columns(values, given)
            speakers |= "speaker" in named
            for column in unused_in(values, {*named.values(), *original}, options):
                unused.setdefault(column, where)
            item = _piece(where, values, named, places, options, fixed)
            if isinstance(item, Piece) and isinstance(item.file, Path):
                place = places.find(item.recording)
                others = names().get(place.path, set()) if place.by_name and place.path else set()
                if not place.path:
                    item = LeftOut(where, *places.missing(item.recording), "missing")
                elif others - {item.recording}:
                    item = _ambiguous(where, item.recording, others)
                elif place.how:
                    yield Guess("place", place.how, f"where {table.name}'s files are", first=where)
            if isinstance(item, LeftOut):
                yield replace(item, file=str(table), items=1)
            else:
                yield replace(item, table=str(table))
    except DataError as error:
        failed = error
    yield from lacking.values()
    if unused:
        yield unused_columns(table, unused, speakers)
    if count:
        yield Used(table, count)
    if failed is not None:
        raise failed
    if not count:
        cure = "check that it is the right file"
        yield LeftOut(table.name, "the table holds no rows", cure, "empty-table", file=str(table))


def _original_times(table: Path, names: Sequence[str]) -> LeftOut:
    return LeftOut(
        table.name,
        f"its columns {' and '.join(names)} lie beyond the ends of the clips: they seem to be "
        "times in the original recordings that the clips were cut from",
        "no action is needed: whole clips are used",
        "original-times",
        "note",
    )


def _no_column(
    where: str,
    table: Path,
    values: Mapping[str, Any],
    missing: Sequence[str],
    given: Mapping[str, str],
) -> LeftOut:
    """The finding for all rows without these columns; `where` is the first of them."""
    cure = "name the columns audio and text, or use the names of NeMo, Common Voice or Hugging Face"
    if "text" in missing and "text" not in given:
        cure = f"name the column of the transcripts: --text-column NAME; or {cure}"
    return LeftOut(
        where,
        f"{table} has no column for {' and '.join(missing)}; its columns are {listed(values)}",
        cure,
        NO_COLUMN,
        file=str(table),
    )


def _ambiguous(where: str, name: str, others: set[str]) -> LeftOut:
    return LeftOut(
        where,
        f"{name} was found only by the end of its path, and other rows name the same file: "
        + ", ".join(sorted(others - {name})[:3]),
        "keep the files' folders, and name the folder above them: --audio-dir DIR",
        "ambiguous",
    )


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

    def words(name: str) -> str | None:
        return cells.words(value(name), named.get(name, ""))

    try:
        start, end, length = (cells.seconds(value(name)) for name in ("start", "end", "duration_s"))
    except ValueError as error:
        return LeftOut(where, str(error), "write seconds, such as 12.5, or 0:12.5")
    try:
        channel = cells.channel(value("channel"))
    except ValueError as error:
        return LeftOut(where, str(error), "write 0, 1 … or mix; a word describes the recording")
    try:
        fields = {name: words(name) for name in WORDS}
        consent = _consent(value("consent"), words("consent_until"))
        terms, divided = cells.terms(value("terms")), stated(words("split"))
        audio = value("audio")
        path = audio if isinstance(audio, Mapping) else words("audio")
    except ValueError as error:
        return LeftOut(where, str(error), "write it as text")
    split = None if divided is None else split_of(divided)
    if divided is not None and split is None:
        found = f"{named['split']} is {divided!r}, which is no split"
        return LeftOut(where, found, "write train, validation or test", "split")
    if end is None and start is not None and length is not None:
        end, length = start + length, None  # NeMo's offset and duration
    file: Path | bytes
    if isinstance(path, Mapping):  # Hugging Face's undecoded audio
        name = str(path.get("path") or where)
        data = path.get("bytes")
        if path.get("array") is not None and not isinstance(data, bytes):
            try:
                data = cells.decoded_sound(path["array"], path.get("sampling_rate"))
            except ValueError as error:
                return LeftOut(
                    where,
                    f"{named['audio']} is a decoded recording, and {error}",
                    f'before save_to_disk, make it audio again: cast_column("{named["audio"]}", '
                    "Audio(sampling_rate=...))",
                )
        file = data if isinstance(data, bytes) else places.find(name).path or Path(name)
    elif path is None:
        return LeftOut(where, "the row names no file", "name the file, or remove the row")
    else:
        name = path
        file = places.find(name).path or Path(name)
    return Piece(
        file,
        name,
        fields["text"] or "",
        where,
        start=start or 0.0,
        end=end,
        channel=channel,
        id=(fields["id"] or "").strip(),
        row=dict(fixed)
        | filled(
            speaker=stated(fields["speaker"]),
            language=stated(fields["language"]) or options.language,
            split=split,
            prompt=(fields["prompt"] or "").strip(),
            terms=terms,
            subject=stated(fields["subject"]),
            consent=consent,
            licence=stated(fields["licence"]),
            source=stated(fields["source"]),
            duration_s=length if start is None and end is None else None,
        ),
        group=_labels(values, channel),
        people=_people(values, named, options),
        guessed={name: "" for name in fixed if name != "split" or split is None},
    )


def _consent(cell: Any, until: str | None) -> Any:
    """What a row states of consent; a cell that says that nothing is known states nothing."""
    if cells.is_empty(cell):
        cell = None
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        cell = f"{cell:g}"
    if isinstance(cell, str) and cell.strip().casefold() not in NO and stated(cell) is None:
        cell = None
    return consent_in(cell, stated(until))


def _labels(values: Mapping[str, Any], channel: Any) -> dict[str, str]:
    """The cells that describe the recording; a channel only if it is a word."""
    known = folded(values)
    columns = {key: known.get(key) or known.get(f"{key}s") for key in DESCRIPTIVE}
    return {
        key: str(values[column]).strip()
        for key, column in columns.items()
        if column is not None
        and (key != "channel" or channel is None)
        and not cells.is_empty(values[column])
        and stated(values[column]) is not None
    }


def _people(
    values: Mapping[str, Any], named: Mapping[str, str], options: ImportOptions
) -> dict[str, str]:
    """The people behind "Agent:" and "Customer:", whom the columns agent and customer name."""
    return {
        name: who
        for name, column in folded(values).items()
        if (ROLE.fullmatch(name) or name in options.speakers)
        and column not in named.values()
        and not cells.is_empty(values[column])
        and (who := stated(values[column])) is not None
    }
