"""Write imported pieces as 16 kHz mono FLAC files with a manifest; repeating changes nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import soundfile
from pydantic import ValidationError

from mmtune.data.importing import Imported
from mmtune.data.manifest import WHOLE, write_manifest
from mmtune.errors import ConfigError, DataError, MmtuneError, printable
from mmtune.speech.corpus.check_recording import MAX_SECONDS
from mmtune.speech.corpus.importers.piece import ImportOptions, LeftOut, Piece
from mmtune.speech.sound.encode import save_sound
from mmtune.speech.sound.read import SAMPLE_RATE, AudioFault, content_of, read_row
from mmtune.speech.speech_row import SOURCE, SpeechRow
from mmtune.system.files import PARTIAL, write_bytes, write_json
from mmtune.system.hashing import hash_bytes, hash_json
from mmtune.system.locks import locked
from mmtune.system.stored import intact_json_lines, read_json_object

AUDIO = "audio"  # folder of the pieces
MARK = "import.json"  # marks the folder of an import and records its source
LEFT_OUT = "left_out.jsonl"
REPLACED = ".replaced.json"  # pieces of the earlier import, until they are removed
PIECE_VERSION = 1  # raised when a piece is written differently


def write(
    found: Iterable[Piece | LeftOut],
    folder: Path,
    facts: dict[str, Any],
    options: ImportOptions,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Write pieces into `folder`: manifest.jsonl, audio/, left_out.jsonl and import.json.

    A piece's file name is a hash of what the piece depends on, so a repeated import decodes
    nothing twice. One piece is in memory at a time.

    Args:
        found: pieces from an importer.
        folder: a new or empty folder, or the folder of an earlier import.
        facts: facts for import.json.
        options: settings of the import.
        progress: called with the number of rows so far.

    Raises:
        ConfigError: the folder holds other files, or its audio/ is a link.
        DataError: the source gives no row, and the folder holds an earlier import.
        Locked: another import writes into the folder.
    """
    _claim(folder, facts)
    with locked(folder):
        return _write(found, folder, facts, options, progress)


def _write(
    found: Iterable[Piece | LeftOut],
    folder: Path,
    facts: dict[str, Any],
    options: ImportOptions,
    progress: Callable[[int], None] | None,
) -> Imported:
    earlier = _pieces_in(folder / WHOLE)
    sources: set[Path] = set()
    rows: list[dict[str, Any]] = []
    left_out: list[LeftOut] = []
    ids: set[str] = set()
    seconds = 0.0
    for item in found:
        if isinstance(item, LeftOut):
            left_out.append(item)
            continue
        if isinstance(item.file, Path):
            sources.add(item.file.resolve())
        try:
            row, length = _write_piece(item, folder, ids, options)
        except AudioFault as fault:
            left_out.append(LeftOut(item.where, fault.found, _cure(fault)))
        except (ValidationError, ValueError) as error:
            left_out.append(LeftOut(item.where, *_wrong(error)))
        else:
            rows.append(row)
            seconds += length
            if progress is not None:
                progress(len(rows))
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
    _mark(folder, facts | counts)
    return Imported(folder, str(facts.get("format", "")), len(rows), tuple(left_out), seconds)


def _pieces_in(manifest: Path) -> set[str]:
    """The pieces that an earlier import's manifest names; none if it is missing or damaged."""
    names: set[str] = set()
    with contextlib.suppress(OSError):
        names = {str(row["audio"]) for row in intact_json_lines(manifest) if "audio" in row}
    return names


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
    piece: Piece, folder: Path, ids: set[str], options: ImportOptions
) -> tuple[dict[str, Any], float]:
    words = " ".join(piece.text.split())
    if not words and not piece.nonspeech:
        raise ValueError("the transcript is empty")
    channel = options.channel if piece.channel is None else piece.channel
    with _on_disk(piece, folder) as file:
        values = dict(piece.row)
        row = SpeechRow.model_validate(
            values
            | {
                "id": _new_id(piece, ids),
                "audio": str(file),
                "text": words,
                "start": piece.start,
                "end": piece.end,
                "channel": channel,
                "nonspeech": piece.nonspeech,
                "group": dict(piece.group) | _lineage(piece, channel),
            }
        )
        try:
            content = content_of(row)
        except OSError:
            content = ""  # reading it gives the error
        name = f"{AUDIO}/{_slug(row.id)}-{hash_json([PIECE_VERSION, content])[:12]}.flac"
        if not content or not (folder / name).is_file():
            samples = read_row(row, max_seconds=MAX_SECONDS)
            if not len(samples):
                raise AudioFault("zero-length", f"{file} holds no samples", "remove the file")
            save_sound(folder / name, samples, private=True)
    ids.add(row.id)
    with soundfile.SoundFile(folder / name) as written:
        length = written.frames / SAMPLE_RATE
    made = row.model_copy(update={"audio": name, "start": 0.0, "end": None, "channel": None})
    return made.model_dump(mode="json", exclude_defaults=True), length


def _lineage(piece: Piece, channel: Any) -> dict[str, str]:
    facts = {SOURCE: piece.recording}
    if piece.start or piece.end is not None:
        facts[f"{SOURCE}_start"] = f"{piece.start:.3f}"
        facts[f"{SOURCE}_end"] = "" if piece.end is None else f"{piece.end:.3f}"
    if channel is not None:
        facts[f"{SOURCE}_channel"] = str(channel)
    return facts


@contextmanager
def _on_disk(piece: Piece, folder: Path) -> Iterator[Path]:
    if isinstance(piece.file, Path):
        yield piece.file
        return
    suffix = Path(piece.recording).suffix[:8]
    path = folder / AUDIO / f".{hash_bytes(piece.file)[:16]}{_slug(suffix) if suffix else ''}"
    write_bytes(path, piece.file, private=True)
    try:
        yield path
    finally:
        path.unlink()


def _new_id(piece: Piece, ids: set[str]) -> str:
    name = piece.id
    if not name:
        name = Path(piece.recording).with_suffix("").as_posix().lstrip("/")
        if piece.start or piece.end is not None:
            name += f"-{round(piece.start * 1000):08d}"
    wanted, number = name, 2
    while wanted in ids:
        wanted, number = f"{name}-{number}", number + 1
    return wanted


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
    return str(error), "write the transcript, or remove the row"


def _claim(folder: Path, facts: dict[str, Any]) -> None:
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
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARK).is_file():
        _mark(folder, facts)  # first, because it lets an interrupted import be repeated
    (folder / AUDIO).mkdir(exist_ok=True)


def _holds_files(folder: Path) -> bool:
    # A kill may have left what was written aside.
    return any(not path.name.startswith(PARTIAL) for path in folder.iterdir())


def _mark(folder: Path, facts: dict[str, Any]) -> None:
    write_json(folder / MARK, facts)
