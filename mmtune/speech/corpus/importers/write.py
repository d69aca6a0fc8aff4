"""Write imported pieces as 16 kHz mono FLAC files with a manifest; repeating changes nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import soundfile
from pydantic import ValidationError

from mmtune.data.importing import NO_COLUMN, Imported
from mmtune.data.ledger import Guess, Ledger, Reason, Used
from mmtune.data.manifest import WHOLE, write_manifest
from mmtune.errors import ConfigError, DataError, MmtuneError, printable
from mmtune.speech.corpus.check_recording import MAX_SECONDS
from mmtune.speech.corpus.importers.chosen_channel import choices_in, choose, stored_choice
from mmtune.speech.corpus.importers.on_disk import on_disk
from mmtune.speech.corpus.importers.piece import ImportOptions, LeftOut, Piece
from mmtune.speech.corpus.importers.row_ids import RowIds
from mmtune.speech.sound.encode import save_sound
from mmtune.speech.sound.read import (
    SAMPLE_RATE,
    AudioFault,
    content_of,
    read_row,
)
from mmtune.speech.speech_row import SOURCE, SpeechRow
from mmtune.system.files import PARTIAL, write_json
from mmtune.system.hashing import hash_json
from mmtune.system.locks import locked
from mmtune.system.stored import intact_json_lines, read_json_object

AUDIO = "audio"  # folder of the pieces
MARK = "import.json"  # marks the folder of an import and records its source
LEFT_OUT = "left_out.jsonl"
REPLACED = ".replaced.json"  # pieces of the earlier import, until they are removed
PIECE_VERSION = 1  # raised when a piece is written differently


def write(
    found: Iterable[Piece | LeftOut | Used | Guess],
    folder: Path,
    facts: dict[str, Any],
    options: ImportOptions,
    progress: Callable[[int], None] | None = None,
    *,
    ledger: Ledger,
    reason_of: Callable[[Path], Reason | None],
    dry: bool = False,
) -> Imported:
    """Write pieces into `folder`: manifest.jsonl, audio/, left_out.jsonl and import.json.

    A piece's file name is a hash of what the piece depends on, so a repeated import decodes
    nothing twice, and rows of the earlier import keep their ids. One piece is in memory at a time.
    If all rows lack a column, a new folder isn't written.

    Args:
        found: pieces from an importer.
        folder: a new or empty folder, or the folder of an earlier import.
        facts: facts for import.json.
        options: settings of the import.
        progress: called with the number of rows so far.
        ledger: of the source; what it finds unused is left out with its reason.
        reason_of: the layout's reason why a file isn't used; None takes that of the file's kind.
        dry: write nothing, but read and decode all that would be written.

    Raises:
        ConfigError: the folder holds other files, or its audio/ is a link.
        DataError: the source gives no row, and the folder holds an earlier import.
        Locked: another import writes into the folder.
    """
    _require_own(folder)
    if dry:
        with TemporaryDirectory() as scratch:
            made = _made(found, folder, Path(scratch), options, progress, ledger, reason_of)
        return _result(made, folder, facts, ledger, dry=True)
    existed, new = folder.exists(), not (folder / MARK).is_file()
    _claim(folder, facts)
    try:
        with locked(folder):
            made = _made(found, folder, folder / AUDIO, options, progress, ledger, reason_of)
            # A wrong name of a column is corrected by another command, so nothing is written.
            wrong = any(each.kind == NO_COLUMN for each in made.left_out)
            if made.rows or not new or not wrong:
                return _store(made, folder, facts, ledger)
    except MmtuneError:
        if new:
            _leave_nothing(folder, existed)
        raise
    _leave_nothing(folder, existed)
    return replace(_result(made, folder, facts, ledger), empty=True)


@dataclass
class _Made:
    """Rows and items of an import before its manifest is written."""

    earlier: dict[str, dict[str, Any]]  # rows of the earlier import by id
    known: Mapping[str, Any] | None  # its choices of channels
    # Channels that were chosen for pieces, by the piece's name: the channel, and the reason.
    channels: dict[str, list[Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    sources: set[Path] = field(default_factory=set)
    seconds: float = 0.0

    @cached_property
    def pieces(self) -> set[str]:
        """The pieces of the earlier import."""
        return {str(row["audio"]) for row in self.earlier.values()}


def _made(
    found: Iterable[Piece | LeftOut | Used | Guess],
    folder: Path,
    scratch: Path,
    options: ImportOptions,
    progress: Callable[[int], None] | None,
    ledger: Ledger,
    reason_of: Callable[[Path], Reason | None],
) -> _Made:
    """Make the rows of the pieces found, with their sound, and account for all else.

    Args:
        scratch: for the sound of rows; the folder's own audio/, or one that is removed.
    """
    made = _Made(_rows_in(folder / WHOLE), choices_in(folder / MARK))
    ids = RowIds(made.earlier)
    for item in found:
        if isinstance(item, Used):
            ledger.use(item)
            continue
        if isinstance(item, Guess):
            ledger.guess(item)
            continue
        if isinstance(item, LeftOut):
            about = item.file or (item.where if item.where in ledger.files else "")
            ledger.leave(about, item.items)
            made.left_out.append(replace(item, file=ledger.name_of(about)))
            continue
        if isinstance(item.file, Path):
            # Of a loop of links or a name with a zero byte, reading gives the error.
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                made.sources.add(item.file.resolve())
        items = item.items if item.table else 0
        try:
            row, length, guess = _write_piece(item, folder, scratch, ids, options, made)
        except (AudioFault, ValueError) as error:
            why = (error.found, _cure(error)) if isinstance(error, AudioFault) else _wrong(error)
            kind = error.kind if isinstance(error, AudioFault) else "left-out"
            ledger.leave(item.table, items)
            about = item.table
            if isinstance(item.file, Path):
                ledger.leave(item.file)
                about = about or str(item.file)
            about = ledger.name_of(about)
            made.left_out.append(LeftOut(item.where, *why, kind, file=about, items=items))
            continue
        made.rows.append(row)
        made.seconds += length
        if isinstance(item.file, Path):
            ledger.use(Used(item.file))
        ledger.use_items(item.table, items)
        if guess is not None:
            ledger.guess(guess)
        for name, source in item.guessed.items():
            if name in row:
                ledger.guess(Guess(name, str(row[name]), source, first=row["id"]))
        if progress is not None:
            progress(len(made.rows))
    for finding in ledger.findings(reason_of):
        place = (finding.row, finding.message, finding.cure, finding.kind, finding.severity)
        made.left_out.append(LeftOut(*place, file=finding.file))
    return made


def _result(
    made: _Made, folder: Path, facts: dict[str, Any], ledger: Ledger, dry: bool = False
) -> Imported:
    ids = [row["id"] for row in made.rows]
    return Imported(
        folder,
        str(facts.get("format", "")),
        len(ids),
        tuple(made.left_out),
        made.seconds,
        guesses=tuple(ledger.guesses.values()),
        files=ledger.counts(),
        lines={name: asdict(items) for name, items in ledger.items.items()},
        new=tuple(name for name in ids if name not in made.earlier),
        removed=tuple(sorted(made.earlier.keys() - set(ids))),
        dry=dry,
    )


def _store(made: _Made, folder: Path, facts: dict[str, Any], ledger: Ledger) -> Imported:
    rows, left_out, sources, seconds = made.rows, made.left_out, made.sources, made.seconds
    earlier = made.pieces
    if earlier and not rows:
        raise _nothing_found(folder, facts, len(earlier), left_out)
    replaced = (earlier | _replaced_in(folder)) - {str(row["audio"]) for row in rows}
    if replaced:  # once the new manifest is there, nothing else names them
        write_json(folder / REPLACED, {"pieces": sorted(replaced)})
    write_manifest(folder / WHOLE, rows)
    write_manifest(folder / LEFT_OUT, [asdict(each) for each in left_out])
    _remove_pieces(folder, replaced, sources)
    (folder / REPLACED).unlink(missing_ok=True)
    counts = {"rows": len(rows), "seconds": round(seconds, 3), "left_out": len(left_out)}
    _mark(folder, facts | counts | {"channels": made.channels})
    return _result(made, folder, facts, ledger)


def _rows_in(manifest: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier import's manifest by id; none if it is missing or damaged."""
    rows: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError):
        for row in intact_json_lines(manifest):
            if "audio" in row:
                rows.setdefault(str(row.get("id")), row)
    return rows


def layout_in(folder: Path, source: Path) -> str | None:
    """The layout of the import into a folder, if it is one of this source."""
    try:
        facts = read_json_object(folder / MARK, "")
    except (OSError, MmtuneError):
        return None
    return str(facts.get("format")) if facts.get("source") == str(source) else None


def _replaced_in(folder: Path) -> set[str]:
    """The pieces that an interrupted import would have removed."""
    try:
        names = read_json_object(folder / REPLACED, "").get("pieces")
    except (OSError, MmtuneError):
        return set()
    return {str(name) for name in names} if isinstance(names, list) else set()


def _remove_pieces(folder: Path, names: set[str], sources: set[Path]) -> None:
    """Remove pieces of an earlier import, and what an interrupted one left unfinished.

    Only regular files directly in audio/ are removed, and no file that was imported from.
    """
    place = folder / AUDIO
    for path in place.iterdir():
        unfinished = path.name.startswith(PARTIAL) or re.fullmatch(r"\.\d+\.partial", path.name)
        if not unfinished and f"{AUDIO}/{path.name}" not in names:
            continue
        if path.is_file() and not path.is_symlink() and path.resolve() not in sources:
            path.unlink()


def _nothing_found(
    folder: Path, facts: dict[str, Any], earlier: int, left_out: list[LeftOut]
) -> DataError:
    why = f" ({len(left_out)} items left out; the first: {left_out[0].found})" if left_out else ""
    return DataError(
        printable(
            f"{facts.get('source', 'the source')} gives no row{why}; the earlier import of "
            f"{earlier} rows in {folder} is kept"
        ),
        "correct the source; if the earlier import is no longer needed, delete its folder",
    )


def _write_piece(
    piece: Piece, folder: Path, scratch: Path, ids: RowIds, options: ImportOptions, made: _Made
) -> tuple[dict[str, Any], float, Guess | None]:
    words = " ".join(piece.text.split())
    if not words and not piece.nonspeech:
        raise AudioFault(
            "empty-text", "the transcript is empty", "write the transcript, or remove the row"
        )
    channel = options.channel if piece.channel is None else piece.channel
    lineage = _lineage(piece, channel)
    with on_disk(piece, scratch) as file:
        values = dict(piece.row)
        row = SpeechRow.model_validate(
            values
            | {
                "id": ids.new(piece, lineage),
                "audio": str(file),
                "text": words,
                "start": piece.start,
                "end": piece.end,
                "channel": channel,
                "nonspeech": piece.nonspeech,
                "group": dict(piece.group) | lineage,
            }
        )
        try:
            content = content_of(row)
        except (OSError, ValueError):  # ValueError: its name holds a zero byte
            content = ""  # reading it gives the error
        name = f"{AUDIO}/{_slug(row.id)}-{hash_json([PIECE_VERSION, content])[:12]}.flac"
        own, frames = folder / name, _frames(folder / name) if content else 0
        if frames and made.known is not None and name in made.pieces:
            choice = stored_choice(made.known.get(name))
        else:
            choice = choose(row, MAX_SECONDS)
        if not frames:
            own = scratch / Path(name).name
            chosen = row.model_copy(update={"channel": choice.channel})
            samples = read_row(chosen, max_seconds=MAX_SECONDS)
            if not len(samples):
                raise AudioFault("zero-length", f"{file} holds no samples", "remove the file")
            save_sound(own, samples, private=True)
            frames = len(samples)
    ids.taken.add(row.id)
    guess = None
    if choice.reason:
        made.channels[name] = [choice.channel, choice.reason]
        guess = Guess("channel", str(choice.channel), choice.reason, first=row.id)
    if scratch != folder / AUDIO and own.parent == scratch:
        own.unlink()
    written = row.model_copy(update={"audio": name, "start": 0.0, "end": None, "channel": None})
    return written.model_dump(mode="json", exclude_defaults=True), frames / SAMPLE_RATE, guess


def _frames(piece: Path) -> int:
    """The number of samples of a piece that is written; 0 if it is missing or damaged."""
    try:
        with soundfile.SoundFile(piece) as file:
            file.seek(file.frames - 1)
            return file.frames if len(file.read(1)) else 0
    except (OSError, soundfile.SoundFileError):
        return 0


def _lineage(piece: Piece, channel: Any) -> dict[str, str]:
    facts = {SOURCE: piece.recording}
    if piece.start or piece.end is not None:
        facts[f"{SOURCE}_start"] = f"{piece.start:.3f}"
        facts[f"{SOURCE}_end"] = "" if piece.end is None else f"{piece.end:.3f}"
    if channel is not None:
        facts[f"{SOURCE}_channel"] = str(channel)
    return facts


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-80:] or "piece"


def _cure(fault: AudioFault) -> str:
    if fault.kind == "channels":
        return "choose one: --channel 0, --channel 1, or --channel mix for the mean of all"
    if fault.kind == "too-long":
        return "let a model find where to cut it: --align --base BASE"
    return fault.cure


def _wrong(error: ValidationError | ValueError) -> tuple[str, str]:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "row"
        return f"{where}: {problem['msg']}", "correct it in the source"
    return str(error), "correct it in the source"


def _require_own(folder: Path) -> None:
    if (folder / AUDIO).is_symlink():
        raise ConfigError(
            f"{folder / AUDIO} is a link, and an import replaces files there",
            "remove the link, or choose another folder: --to DIR",
        )
    if (
        folder.exists()
        and not (folder / MARK).is_file()
        and (not folder.is_dir() or _holds_files(folder))
    ):
        raise ConfigError(
            f"{folder} exists already and holds no import", "choose another folder: --to DIR"
        )


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARK).is_file():
        _mark(folder, facts)  # first, because it lets an interrupted import be repeated
    (folder / AUDIO).mkdir(exist_ok=True)


def _leave_nothing(folder: Path, existed: bool) -> None:
    """Remove what an import has put into a new folder, unless it holds pieces."""
    with contextlib.suppress(OSError):
        (folder / AUDIO).rmdir()  # an error, if it holds pieces: a repeated import uses them
        (folder / MARK).unlink()
        if not existed:
            folder.rmdir()


def _holds_files(folder: Path) -> bool:
    # A kill may have left what was written aside.
    return any(not path.name.startswith(PARTIAL) for path in folder.iterdir())


def _mark(folder: Path, facts: dict[str, Any]) -> None:
    write_json(folder / MARK, facts)
