"""Checking a dataset: the one way from a manifest to rows that may be trained on."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmtune.config import DataOptions, Section
from mmtune.data.dataset import _BY_CHECK, Dataset, _in_full
from mmtune.data.manifest import read_rows, root_of
from mmtune.data.reader import Reader
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.data.split import assign, held_out, leaks
from mmtune.errors import DataError, printable
from mmtune.system.hashing import hash_json


def check(
    source: Path,
    modality: Reader,
    options: DataOptions = DataOptions(),  # noqa: B008  (frozen)
    *,
    strict: bool = True,
    terms: Path | None = None,
    base: str | None = None,
    settings: Section | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read, open and judge every row of a manifest or folder.

    Args:
        source: a .jsonl manifest or a folder (see `read_rows`).
        modality: whose rows they are.
        options: shares of the splits, and how many rows may be bad.
        strict: raise where training must not begin; otherwise give what there is, to be shown.
        terms: a list of words whose spelling the modality compares with the rows'.
        base: the model that the rows are for: what it can't read of them is found too.
        settings: the modality's own, of the run that the rows are for.
        progress: called with (files opened, files in all).

    Raises:
        DataError: the source can't be used at all; or, if `strict`, more than `options.max_bad`
            of the rows have errors or none is left.
    """
    rows, findings = read_rows(source, modality)
    lost = list(dict.fromkeys(f.row for f in findings if f.severity == "error"))
    inspected = _inspect_all(rows, root_of(source), modality, progress)
    findings += [f for _, inspection in inspected for f in inspection.findings]
    bad = {finding.row for finding in findings if finding.severity == "error"}
    good = [
        (row.model_copy(update={"content": inspection.content}), inspection)
        for row, inspection in inspected
        if row.id not in bad
    ]
    findings += _duplicates([row for row, _ in good])
    findings += modality.check_rows(
        [row for row, _ in good],
        terms,
        seen=[inspection for _, inspection in good],
        base=base,
        settings=settings,
    )
    bad = {finding.row for finding in findings if finding.severity == "error"}
    links = [(finding.row, finding.other) for finding in findings if finding.other]
    free = [row for row, _ in good if row.id not in bad]
    kept = assign(free, options.validation, options.test, links=links)
    if kept:
        findings += leaks(kept, links)
        findings += held_out(kept, [("validation", options.validation), ("test", options.test)])
    dataset = Dataset(
        source=source,
        modality=modality.name,
        rows=tuple(kept),
        findings=tuple(findings),
        quarantined=(*lost, *(row.id for row in rows if row.id in bad)),
        facts={row.id: inspection.facts for row, inspection in good if row.id not in bad},
        fingerprint=hash_json(
            sorted((_identity(row) for row in kept), key=lambda values: str(values["id"]))
        ),
        made_by=_BY_CHECK,
    )
    if strict and (dataset.bad > options.max_bad or not dataset.rows):
        raise _refusal(dataset, options.max_bad)
    return dataset


def _refusal(dataset: Dataset, max_bad: float) -> DataError:
    total = len(dataset.rows) + len(dataset.quarantined)
    errors = [finding for finding in dataset.findings if finding.severity == "error"]
    kinds = Counter(finding.kind for finding in errors)
    counted = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    first = "".join(f"\n  {line}" for line in _in_full(errors[:3]))
    share = f"; at most {max_bad:.0%} may be" if dataset.rows else ""
    cure = f"mmtune check {dataset.source} lists all of them"
    if dataset.rows:
        cure += f"; mend them, or accept their loss with --max_bad {dataset.bad + 0.005:.2f}"
    return DataError(
        f"{printable(str(dataset.source))}: {len(dataset.quarantined)} of {total} rows can't be "
        f"used{share} ({counted}){first}",
        cure,
    )


def _inspect_all(
    rows: Sequence[Row],
    root: Path,
    modality: Reader,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[Row, Inspection]]:
    def inspect(row: Row) -> tuple[Row, Inspection]:
        placed = place(row, root)
        if isinstance(placed, Finding):
            return row, Inspection("", [placed])
        try:
            return placed, modality.inspect(placed)
        except Exception as error:  # a decoder's surprise must not end the check of the others
            what = placed.path if placed.media else f"row {row.id!r}"
            found = f"{what} can't be read: {type(error).__name__}: {error}"
            return placed, Inspection("", [Finding("unreadable", row.id, found, "remove the row")])

    # Decoders and hashes release the interpreter's lock, so that threads are enough.
    workers = min(16, (os.cpu_count() or 1) + 2)
    done: list[tuple[Row, Inspection]] = []
    # Pillow warns of what becomes a finding here; the filter is global, so it is set outside.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for pair in pool.map(inspect, rows):
            done.append(pair)
            if progress is not None:
                progress(len(done), len(rows))
    return done


def place(row: Row, root: Path) -> Row | Finding:
    """The row with absolute paths; or why they are none, or lead out of the manifest's folder."""
    placed = {}
    for name, written in row.files.items():
        try:
            path = (root / written).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            found = f"{written!r} is no path: {error}"
            return Finding("missing", row.id, found, "correct the path")
        if not path.is_relative_to(root):
            return Finding(
                "outside",
                row.id,
                f"{written!r} leads out of the manifest's folder, to {path}",
                "move or copy the file into the folder; a manifest may not reach elsewhere",
            )
        placed[name] = str(path)
    return row.model_copy(update=placed)


def _duplicates(rows: Sequence[Row]) -> list[Finding]:
    first: dict[str, Row] = {}
    findings = []
    for row in rows:
        other = first.setdefault(row.content, row)
        if other is not row:
            agree = other.reference == row.reference
            findings.append(
                Finding(
                    "duplicate-content",
                    row.id,
                    _same(row, other)
                    + ("" if agree else f", but its words are {row.reference[:60]!r}"),
                    "remove one of the rows" if agree else "keep the row whose words are right",
                )
            )
    return findings


def _same(row: Row, other: Row) -> str:
    if row.media:
        return f"{row.path} is byte for byte {other.path} (row {other.id!r})"
    return f"row {row.id!r} has the same fields as row {other.id!r}"


def _identity(row: Row) -> dict[str, object]:
    absent = {name for name in row.beside if getattr(row, name) is None}
    values = row.model_dump(mode="json", exclude={row.media} | absent)
    # That there is one is a fact of the row; where it lies isn't, and its bytes are in `content`.
    return values | {name: True for name in row.beside if name in values}


def usable_rows(manifest: Path, reader: Reader) -> tuple[Sequence[Row], list[str]]:
    """The usable rows of a manifest, and what is wrong with the others, a line each.

    Raises:
        DataError: it can't be used, or none is left.
    """
    rows, findings = read_rows(manifest, reader)
    usable: list[Row] = []
    for row in rows:
        placed = place(row, root_of(manifest))
        if isinstance(placed, Row):
            usable.append(placed)
        else:
            findings.append(placed)
    if not usable:
        raise DataError(f"{manifest} holds no usable row", f"mmtune check {manifest}")
    wrong = [finding for finding in findings if finding.severity == "error"]
    return usable, [f"{manifest}: {finding.row}: {finding.message}" for finding in wrong]
