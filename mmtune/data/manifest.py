"""Read and write manifests (JSONL files with one row per line), and scan folders without one.

A bad line raises no error. It becomes a finding that names the line, the key and the cure.
"""

from __future__ import annotations

import codecs
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmtune.data.ledger import OWN, Guess, Ledger, Used, is_litter
from mmtune.data.reader import Reader
from mmtune.data.rows import Finding, Row
from mmtune.data.split_folders import folder_splits
from mmtune.errors import DataError, NothingToUse, did_you_mean
from mmtune.system.files import stream_aside
from mmtune.system.inside import leads_out
from mmtune.system.pointers import pointer_in
from mmtune.system.stored import lines_up_to, opened, reason_of

MAX_LINE = 1_000_000  # bytes in one row

# A folder may hold this manifest, or one manifest for each split.
WHOLE = "manifest.jsonl"
BY_SPLIT = {"train.jsonl": "train", "validation.jsonl": "validation", "test.jsonl": "test"}


def root_of(source: Path) -> Path:
    """Return the folder that a source's paths are relative to, with links resolved."""
    return (source if source.is_dir() else source.parent).resolve()


def manifests_of(source: Path) -> list[Path]:
    """The manifests that hold the rows of a source; none if it is a folder of media files."""
    if source.is_file():
        return [source]
    if (source / WHOLE).is_file():
        return [source / WHOLE]
    found = [source / name for name in BY_SPLIT if (source / name).is_file()]
    return found if source / "train.jsonl" in found else []


def read_rows(
    source: Path, modality: Reader, ledger: Ledger | None = None
) -> tuple[list[Row], list[Finding]]:
    """Read the rows of a manifest or folder, with a finding for each row that is wrong.

    Args:
        source: a .jsonl file; or a folder with manifest.jsonl, with {train,validation,test}.jsonl,
            or with media files (see the modality's `scan`).
        modality: the modality of the rows.
        ledger: learns which files and lines were used, where each row comes from, and what was
            guessed.

    Returns:
        The rows, with unique ids and with paths as written; and the findings, at least one for
        each row that is left out.

    Raises:
        DataError: the source can't be used at all: it is missing, empty, not JSONL, or a manifest
            of the folder is a link that leads out of it.
    """
    ledger = Ledger() if ledger is None else ledger
    if source.is_dir():
        require_own_manifests(source)
        manifests = manifests_of(source)
        if manifests == [source / WHOLE]:
            for name in OWN:
                ledger.use(Used(source / name))
        if len(manifests) == 1:  # nothing is held out elsewhere
            return _read_files(dict.fromkeys(manifests), modality, ledger)
        if manifests:
            parts = {path: BY_SPLIT[path.name] for path in manifests}
            return _read_files(parts, modality, ledger)
        told: list[Finding] = []
        scanned = list(_scanned(source, modality, told, ledger))
        media = modality.row.media
        splits, unused = folder_splits((raw for _, _, raw, _, _ in scanned), media, ledger)
        raws = (
            (where, "", {"split": split, **raw} if split else raw, file, line)
            for split, (where, _, raw, file, line) in zip(splits, scanned, strict=True)
        )
        rows, findings = _validate(raws, modality.row, source, ledger)
        findings += [*told, *unused]
        if not rows and not findings and not modality.row.media:
            raise NothingToUse(
                f"{source} holds no manifest",
                f"write {source}/{WHOLE} with lines like {example(modality.row)}",
            )
        if not rows and not findings:
            raise NothingToUse(
                f"{source} holds no {modality.row.media} files",
                f"give a folder of {modality.row.media} files, or a manifest: "
                f"{source}/NAME.jsonl with lines like {example(modality.row)}",
            )
        return rows, findings
    return _read_files({source: None}, modality, ledger)


def require_own_manifests(folder: Path) -> None:
    """Refuse a folder whose manifest is a link that leads out of it.

    Raises:
        DataError: names the manifest.
    """
    for name in (WHOLE, *BY_SPLIT):
        if (folder / name).is_symlink() and leads_out(folder, folder / name):
            raise DataError(
                f"{folder / name} is a link that leads out of the folder",
                "copy the manifest into the folder, in place of the link",
            )


def write_manifest(path: Path, rows: Sequence[Row | dict[str, Any]]) -> None:
    """Write rows as JSONL, atomically and private; paths inside its folder become relative."""
    root = path.parent.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with stream_aside(path, private=True) as file:
        for row in rows:
            values = row
            if isinstance(row, Row):
                values = row.model_dump(mode="json", exclude_defaults=True, exclude={"content"})
                for name in row.files.keys() & values.keys():
                    place = Path(values[name])
                    if place.is_absolute() and place.is_relative_to(root):
                        values[name] = place.relative_to(root).as_posix()
            line = json.dumps(values, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "backslashreplace"))


def example(row: type[Row]) -> str:
    """Make an example line of a manifest, for error messages."""
    needed = [name for name, field in row.model_fields.items() if field.is_required()]
    values = dict.fromkeys(needed, "…") | {"id": "1"}
    if row.media:
        values[row.media] = "folder/file"
    return json.dumps(values, ensure_ascii=False)


def scan_files(folder: Path, suffixes: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """List the media files below a folder in a fixed order, each with the id of its row.

    Files and folders that `is_litter` names are skipped (.DS_Store, and the ._NAME files that macOS
    writes into archives). The id is the path in the folder without its suffix. If two files would
    get the same id, only the first loses its suffix.
    """
    wanted = {suffix.lower() for suffix in suffixes}
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not is_litter(n))
        for name in sorted(names):
            path = Path(parent, name)
            if is_litter(name) or path.suffix.lower() not in wanted:
                continue
            relative = path.relative_to(folder)
            row = relative.with_suffix("").as_posix()
            if row in seen:
                row = relative.as_posix()
            seen.add(row)
            yield row, relative


# Place in the source, split that the file's name gives, value, file, and line of the file
Raw = tuple[str, str, Any, str, int | None]


def _scanned(folder: Path, modality: Reader, told: list[Finding], ledger: Ledger) -> Iterator[Raw]:
    for raw in modality.scan(folder):
        if isinstance(raw, Finding):
            told.append(raw)
            if raw.file:
                ledger.leave(raw.file, 0 if raw.line is None else 1)
        elif isinstance(raw, Used):
            ledger.use(raw)
        elif isinstance(raw, Guess):
            ledger.guess(raw)
        else:
            media = raw.get(modality.row.media)
            file = str(folder / media) if isinstance(media, str) else ""
            yield str(raw.get("id")), "", raw, file, None


def _read_files(
    files: Mapping[Path, str | None], modality: Reader, ledger: Ledger
) -> tuple[list[Row], list[Finding]]:
    findings: list[Finding] = []

    def lines() -> Iterator[Raw]:
        for path, split in files.items():
            prefix = f"{path.name} " if len(files) > 1 else ""
            ledger.use(Used(path))
            for number, line in lines_of(path, modality.row):
                where = f"{prefix}line {number}"
                ledger.use(Used(path, 1))
                try:
                    yield where, split or "", parse_line(line), str(path), number
                except (ValueError, RecursionError) as error:
                    found = f"{path.name}, line {number}: this line is not a row: {error}"
                    cure = f"write one JSON object on the line: {example(modality.row)}"
                    bad = Finding("not-json", where, found, cure, file=str(path), line=number)
                    findings.append(bad)
                    ledger.leave(path, 1)

    rows, more = _validate(lines(), modality.row, None, ledger)
    findings += more
    if not rows and not findings:
        raise DataError(
            f"{', '.join(str(p) for p in files)} holds no rows",
            f"write lines like {example(modality.row)}",
        )
    return rows, findings


def lines_of(path: Path, row: type[Row]) -> Iterator[tuple[int, bytes]]:
    """Yield the non-empty lines of a JSONL file with their numbers, counted from 1.

    Raises:
        DataError: the file is missing, can't be read, is UTF-16 or a pointer of Git LFS, or isn't
            named .jsonl.
    """
    refuse_media_file(path, row)
    if path.suffix.lower() not in (".jsonl", ".ndjson") and path.exists():
        raise NothingToUse(
            f"{path} is neither a manifest (.jsonl) nor a folder",
            f"give a .jsonl file with one row per line: {example(row)}",
        )
    try:
        with opened(path) as file:
            for number, line in enumerate(lines_up_to(file, MAX_LINE), start=1):
                if number == 1 and (pointer := pointer_in(line)) is not None:
                    raise DataError(f"{path} {pointer.found}", pointer.cure)
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(f"{path} is UTF-16", "save it as UTF-8")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line
    except (OSError, ValueError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else reason_of(error)
        raise DataError(f"{path}: {what}", "give a .jsonl manifest or a folder") from None


def refuse_media_file(source: Path, row: type[Row]) -> None:
    """Refuse one media file as a source.

    Raises:
        NothingToUse: it is neither a manifest nor a folder.
    """
    if source.suffix.lower() in row.suffixes and source.is_file():
        raise NothingToUse(
            f"{source} is one {row.media} file, and neither a manifest (.jsonl) nor a folder",
            f"give its folder: mmtune check {shlex.quote(str(source.parent))}",
        )


def parse_line(line: bytes) -> dict[str, Any]:
    """Parse one line of JSONL.

    Raises:
        ValueError: the line is too long, is no JSON object, is not UTF-8, or repeats a key.
        RecursionError: the object is nested too deeply.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"it has more than {MAX_LINE:,} bytes")
    value = json.loads(line.decode("utf-8"), object_pairs_hook=unique_keys)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a JSON {type(value).__name__}, not an object")
    if b"\\ud" in line.lower():  # half of a surrogate pair: JSON allows it, UTF-8 doesn't
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the object of its keys and values, for `json`.

    Raises:
        ValueError: a key occurs twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return values


def keys_of(line: bytes) -> set[str]:
    """Return the keys of one line of JSONL; none if the line can't be parsed."""
    try:
        return set(parse_line(line))
    except (ValueError, RecursionError):
        return set()


def _validate(
    raws: Iterable[Raw], kind: type[Row], folder: Path | None, ledger: Ledger
) -> tuple[list[Row], list[Finding]]:
    rows: list[Row] = []
    findings: list[Finding] = []
    first: dict[str, str] = {}  # place where each id occurs first
    for where, split, raw, file, line in raws:
        lines = 0 if line is None else 1
        if "id" not in raw:
            # Several rows may be spans of one file, or files whose names differ by the suffix.
            own = _id_from(raw.get(kind.media))
            raw = {"id": where if own in first or not own else own, **raw}
        if split:
            if "split" not in raw:
                ledger.guess(Guess("split", split, f"the name of {Path(file).name}", first=where))
            raw = {"split": split, **raw}
        name = raw.get("id")
        label = name if isinstance(name, str) and name and name not in first else where
        place = where if label == where else f"{where}, row {label!r}"
        if "content" in raw:
            found = f"{place}: the key 'content' is reserved for mmtune"
            cure = "remove the key"
            findings.append(Finding("unknown-key", label, found, cure, file=file, line=line))
            ledger.leave(file, lines)
            continue
        try:
            row = kind.model_validate(raw)
        except ValidationError as error:
            explained = _explain(error, label, place, kind, folder, raw)
            findings += [replace(each, file=file, line=line) for each in explained]
            ledger.leave(file, lines)
            if isinstance(name, str):
                first.setdefault(name, where)
            continue
        if row.id in first:
            found = f"{place}: the id {row.id!r} is already used in {first[row.id]}"
            cure = "give each row its own id"
            findings.append(Finding("duplicate-id", where, found, cure, file=file, line=line))
            ledger.leave(file, lines)
            continue
        ledger.use_items(file, lines)
        ledger.places[row.id] = (file, line)
        first[row.id] = where
        rows.append(row)
    return rows, findings


def _id_from(media: Any) -> str:
    path = Path(media) if isinstance(media, str) else Path()
    return path.with_suffix("").as_posix() if path.name else ""


def _explain(
    error: ValidationError,
    label: str,
    place: str,
    kind: type[Row],
    folder: Path | None,
    raw: dict[str, Any],
) -> Iterator[Finding]:
    known = [name for name in kind.model_fields if name != "content"]
    for problem in error.errors(include_url=False)[:5]:
        key = ".".join(str(part) for part in problem["loc"]) or "row"
        if problem["type"] == "extra_forbidden":
            found = f"{place}: unknown key {key!r}"
            yield Finding("unknown-key", label, found, _suggest(key, known, kind))
        elif problem["type"] == "missing" and folder is not None:
            beside = Path(str(raw.get(kind.media))).with_suffix(".txt")
            found = f"{place}: {raw.get(kind.media)} has no text"
            yield Finding("missing-text", label, found, f"write its text into {folder / beside}")
        elif problem["type"] == "missing":
            found = f"{place}: the key {key!r} is missing"
            yield Finding("missing-key", label, found, f"a row needs {example(kind)}")
        elif problem["type"] == "string_unicode":
            found = f"{place}: {key} is not UTF-8 text"
            yield Finding("bad-value", label, found, f"rename the file, or correct {key!r}")
        else:
            value = repr(problem.get("input"))
            shown = value if len(value) <= 60 else value[:57] + "…"
            found = f"{place}: {key} = {shown}: {problem['msg']}"
            yield Finding("bad-value", label, found, f"correct {key!r}")


def _suggest(key: str, known: Sequence[str], kind: type[Row]) -> str:
    for names in kind.synonyms:
        if key.lower() in names and (match := [name for name in known if name in names]):
            return f"did you mean {match[0]}?"
    return f'{did_you_mean(key, known)} (put keys that only describe the row into "group")'
