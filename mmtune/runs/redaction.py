"""`mmtune.redact`: write a copy of a dataset whose texts hold no private words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.data.check import resolve_paths
from mmtune.data.ledger import Ledger
from mmtune.data.manifest import WHOLE, read_rows, root_of, write_manifest
from mmtune.data.reader import Reader
from mmtune.data.rows import Finding, Row
from mmtune.data.version_log import read_log
from mmtune.data.versions import record_version
from mmtune.errors import ConfigError, DataError
from mmtune.privacy.finder import PrivateWordFinder
from mmtune.privacy.names import read_names
from mmtune.privacy.private_span import KINDS
from mmtune.privacy.redacted_rows import CURES, UNREADABLE, RedactedRows, redact_rows
from mmtune.privacy.spoken_words import LANGUAGES
from mmtune.runs.modalities import find_modality, guess_modality
from mmtune.system.display import Displayed, Rows, numbered
from mmtune.system.files import aside, copy_file, write_json
from mmtune.system.quiet import public_call
from mmtune.system.stored import is_file

TEXTS = "texts.jsonl"  # rows without their files
REPORT = "redaction.json"
REPORT_VERSION = 1  # raised when stored keys change
UNLISTED = "names beyond your list aren't searched"
PICTURES = "pictures are copied as they are: what they show, and their metadata, isn't searched"
# Fields that mean nothing without the item's file.
_OF_FILES = ("start", "end", "channel", "duration_s", "segments")


@dataclass(frozen=True)
class Redacted(Displayed):
    """What `redact` wrote; it holds none of the words that it found.

    Attributes:
        folder: the new folder.
        file: the manifest or texts in it.
        rows: number of rows written.
        words: number of words searched in them.
        changed: number of rows in which private words were replaced.
        counts: private words that were replaced, by kind.
        left_out: rows that couldn't be handled, by reason.
        notes: what wasn't searched.
    """

    folder: Path
    file: Path
    rows: int
    words: int
    changed: int
    counts: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def shown(self) -> list[str | Rows]:
        """The lines that `mmtune redact` prints."""
        total = sum(self.counts.values())
        lines: list[str | Rows] = [
            f"{self.file}  {numbered(self.rows, 'row')}, {numbered(self.words, 'word')}; "
            f"{numbered(total, 'private word')} replaced in {numbered(self.changed, 'row')}"
        ]
        if self.counts:
            lines.append([["kind", "replaced"], *([k, str(n)] for k, n in self.counts.items())])
        lines += [
            f"{numbered(count, 'row')} left out ({reason}): {CURES[reason]}"
            for reason, count in self.left_out.items()
        ]
        return [*lines, *self.notes]


@public_call("redact")
def redact(
    source: str | Path,
    to: str | Path,
    *,
    names: str | Path | Sequence[str] = (),
    name_model: str | None = None,
    regions: Sequence[str] = (),
    account_words: Sequence[str] = (),
    kinds: Sequence[str] = KINDS,
    language: str | None = None,
    texts_only: bool = False,
    modality: str | None = None,
) -> Redacted:
    """Write a copy of a dataset in whose texts private words are replaced, such as by [CARD].

    Rows that can't be handled are left out and counted. Recordings aren't changed, so data with
    recordings needs `texts_only`, and is written without them. The copy gets a version of its own,
    made from the last version of the source; texts alone, which are no rows, get none.

    Args:
        source: a manifest.jsonl, or a folder of files.
        to: the new folder.
        names: a file with one name on each line, or the names.
        name_model: an installed spaCy model, by name or folder, that finds further names.
        regions: countries' codes, for phone numbers without one, such as US; empty: those of the
            row's language.
        account_words: further words that announce account and record numbers.
        kinds: what to replace: card, iban, email, phone, birth, account, name.
        language: of rows that name none: en, de, fr or es; None: they are read in all of these.
        texts_only: write the texts without recordings or pictures.
        modality: the modality's name; None: recognised from the content.

    Raises:
        ConfigError: a setting can't be used, `to` exists, or there are recordings.
        DataError: the source or its version log can't be used at all, or no row is left.
        MissingExtra: `phonenumbers` or spaCy isn't installed.
    """
    path, folder = Path(source), Path(to)
    if not path.exists():
        raise ConfigError(f"no such file or folder: {path}", "give a manifest.jsonl or a folder")
    if language is not None and language not in LANGUAGES:
        raise ConfigError(
            f"--language {language}: private words are found in {', '.join(LANGUAGES)} only",
            "give one of these, or leave it out: rows without a language are then read in all",
        )
    listed = read_names(Path(names)) if isinstance(names, str | Path) else tuple(names)
    shared: dict[str, Any] = {"names": listed, "regions": regions, "kinds": kinds}
    finder = PrivateWordFinder(**shared, name_model=name_model, account_words=account_words)
    reader = find_modality(modality) if modality is not None else guess_modality(path)
    if reader.row.says_text and not texts_only:
        raise ConfigError(
            f"{path} holds recordings, in which the private words can still be heard; redact "
            "doesn't mute them",
            "add --texts-only to write the redacted texts without the recordings",
        )
    rows, files, lost = _read(path, reader, language, texts_only)
    identifiers = PrivateWordFinder(**shared)
    result = redact_rows(rows, finder, identifiers, with_files=not texts_only)
    left_out = {reason: len(ids) for reason, ids in result.left_out.items()}
    left_out |= {UNREADABLE: lost} if lost else {}
    if not result.rows:
        reasons = "; ".join(
            f"{numbered(count, 'row')}: {CURES[reason]}" for reason, count in left_out.items()
        )
        raise DataError(f"{path}: no row can be redacted", reasons)
    notes = () if finder.searches_unlisted_names or "name" not in kinds else (UNLISTED,)
    notes = notes if texts_only or not reader.row.media else (*notes, PICTURES)
    found = Redacted(
        folder=folder,
        file=folder / (TEXTS if texts_only else WHOLE),
        rows=len(result.rows),
        words=result.words,
        changed=result.changed,
        counts=result.counts,
        left_out=left_out,
        notes=notes,
    )
    settings = {
        "kinds": list(kinds),
        "listed_names": len(listed),
        "name_model": name_model,
        "regions": list(regions),
        "account_words": len(account_words),
        "language": language,
    }
    parent = read_log(path).last
    with aside(folder) as partial:
        _write(partial, result, files, texts_only)
        if not texts_only:
            parents = [] if parent is None else [parent.fingerprint]
            record_version(partial, reader, "redact", parents=parents)
        report = {"version": REPORT_VERSION, **found.to_dict(), "settings": settings}
        for place in ("folder", "file"):
            del report[place]
        write_json(partial / REPORT, report)
        partial.rename(folder)
    return found


Files = Mapping[str, Mapping[str, tuple[Path, str]]]
"""For each row's id and field: the file, and its path in the manifest's folder."""


def _read(
    path: Path, reader: Reader, language: str | None, texts_only: bool
) -> tuple[list[Row], Files, int]:
    """The rows of a source, their files, and how many lines or files can't be used."""
    rows, findings = read_rows(path, reader, Ledger())
    bad = {(f.row, f.file, f.line) for f in findings if f.severity == "error"}
    root = root_of(path)
    kept: list[Row] = []
    files: dict[str, dict[str, tuple[Path, str]]] = {}
    missing = 0
    for row in rows:
        resolved = resolve_paths(row, root)
        places = {} if isinstance(resolved, Finding) else resolved.files
        if not texts_only:
            if isinstance(resolved, Finding) or not all(is_file(Path(p)) for p in places.values()):
                missing += 1
                continue
            files[row.id] = {
                name: (Path(places[name]), _within(root, written))
                for name, written in row.files.items()
            }
        if language is not None and getattr(row, "language", language) is None:
            row = row.model_copy(update={"language": language})
        kept.append(row)
    return kept, files, len(bad) + missing


def _within(root: Path, written: str) -> str:
    """A path of a manifest, relative to its folder."""
    place = os.path.relpath(root / written, root)
    return Path(place).as_posix()


def _write(folder: Path, result: RedactedRows, files: Files, texts_only: bool) -> None:
    """Write the rows, and copies of their files."""
    folder.mkdir()
    written = []
    for row, values in result.rows:
        if texts_only:
            left = (*row.files, *_OF_FILES)
            written.append({name: value for name, value in values.items() if name not in left})
            continue
        for name, (source, place) in files[row.id].items():
            values[name] = place
            copy = folder / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                copy_file(source, copy)
        written.append(values)
    write_manifest(folder / (TEXTS if texts_only else WHOLE), written)
