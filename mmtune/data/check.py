"""Check a dataset: read a manifest or folder, inspect every file, and split the usable rows."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mmtune.config import DataOptions, Section
from mmtune.data.dataset import _BY_CHECK, Dataset, _in_full
from mmtune.data.duplicates import duplicates
from mmtune.data.ledger import Guess, Ledger, Reason, Used
from mmtune.data.manifest import BY_SPLIT, WHOLE, manifests_of, read_rows, root_of
from mmtune.data.policy import (
    Judged,
    Policy,
    Use,
    find_policy,
    judge_rows,
    policy_beside,
    refusal_counts,
)
from mmtune.data.reader import Reader
from mmtune.data.rows import STOPPING, Finding, Inspection, Row, Split
from mmtune.data.split import Assigned, assign, missing_splits, shared_by_splits
from mmtune.data.split_ledger import assign_and_keep, ledger_path
from mmtune.data.version_rows import Seen
from mmtune.data.versions import kept_version, record_version
from mmtune.errors import DataError, NothingToUse, printable
from mmtune.system.hashing import hash_json
from mmtune.system.inside import snapshot_link

LENGTH = "duration_s"  # the fact about a row that tells how long it lasts


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
    divide: bool = True,
    record: bool = False,
    earlier: Collection[str] = (),
) -> Dataset:
    """Read the rows of a manifest or folder, inspect every file, and report what is wrong.

    Args:
        source: a .jsonl manifest or a folder (see `read_rows`).
        modality: the modality of the rows.
        options: shares of the splits, and the share of rows that may have errors.
        strict: raise an error if the data can't be trained on; otherwise return all findings.
        terms: a term list; the modality compares the rows' spelling with it.
        base: the base model; the modality also reports what this base can't read.
        settings: the modality's settings in the run that will use the rows; they may name rules
            that the rows are judged by.
        progress: called with (files opened, number of files).
        divide: give each row a split; otherwise all usable rows stay, with the splits that the
            data names.
        record: if training accepts the data, keep the splits of new rows in the ledger beside it
            (`mmtune/data/split_ledger.py`), and a version of the rows (`mmtune/data/versions.py`);
            otherwise the ledger is only read. With `strict`, a version that can't be written is
            an error, else a finding.
        earlier: fingerprints of runs' data. If the rows have one of them when none that leaks is
            left out, they are divided so: that run was made by a version that did this.

    Raises:
        DataError: the source or its split ledger can't be used at all. With `strict` also: a share
            of rows above `options.max_bad` has errors, no row is left, a split that the data
            names would be empty without the rows that leak, or the version log isn't as mmtune
            wrote it.
    """
    inspected = inspect_source(
        source,
        modality,
        terms=terms,
        base=base,
        settings=settings,
        progress=progress,
        policy=find_policy(options.policy, source),
    )
    dataset = inspected.divided(
        options, strict=strict, divide=divide, record=record, earlier=earlier
    )
    if record and _is_accepted(dataset, options):
        lengths = {n: facts[LENGTH] for n, facts in dataset.facts.items() if LENGTH in facts}
        known = Seen(lengths, inspected.hashes())
        if strict:  # nothing is trained on rows that nobody could find again
            version = record_version(source, modality, seen=known).fingerprint
            dataset = replace(dataset, version=version)
        else:
            version, unwritten = kept_version(source, modality, seen=known)
            findings = (*dataset.findings, *unwritten)
            dataset = replace(dataset, version=version, findings=findings)
    return replace(dataset, rules=tuple(modality.judge_rules(dataset.rows, settings)))


def _is_accepted(dataset: Dataset, options: DataOptions) -> bool:
    """Whether training accepts the data."""
    stops = (*STOPPING, "split-refused")
    refused = any(finding.kind in stops for finding in dataset.findings)
    return bool(dataset.rows) and dataset.bad <= options.max_bad and not refused


def inspect_source(
    source: Path,
    modality: Reader,
    *,
    terms: Path | None = None,
    base: str | None = None,
    settings: Section | None = None,
    progress: Callable[[int, int], None] | None = None,
    policy: Policy | None = None,
    use: Use = "train",
) -> Inspected:
    """Read the rows of a manifest or folder and open every file, without dividing the rows.

    Files of rows that the policy refuses aren't opened.

    Args:
        source, modality, terms, base, settings, progress: as for `check`.
        policy: judges what rows state of consent and licence; None: the one beside the source.
        use: what the rows are read for.

    Raises:
        DataError: the source can't be used at all.
        ConfigError: the policy is wrong.
    """
    policy = find_policy(None, source) if policy is None else policy
    inventory = [source] if source.is_dir() and modality.row.media else []
    ledger = Ledger(inventory, root_of(source))
    rows, findings = read_rows(source, modality, ledger)
    findings += _unused_files(source, modality, ledger, rows)
    # Findings until here are about lines and files. Their labels, such as "line 2", may be equal to
    # the id of a row that is good.
    # Those that stop training are about a whole file, of which the rows aren't known.
    errors = [f for f in findings if f.severity == "error" and f.kind not in STOPPING]
    lost = [row for row, _, _ in dict.fromkeys((f.row, f.file, f.line) for f in errors)]
    judged = judge_rows(rows, policy, use)
    inspected = _inspect_all(judged.rows, root_of(source), modality, progress)
    of_rows = [f for _, inspection in inspected for f in inspection.findings]
    bad = {finding.row for finding in of_rows if finding.severity == "error"}
    good = [
        (row.model_copy(update={"content": inspection.content}), inspection)
        for row, inspection in inspected
        if row.id not in bad
    ]
    copies = duplicates([row for row, _ in good])
    of_rows += copies
    of_rows += modality.check_rows(
        [row for row, _ in good],
        terms,
        seen=[inspection for _, inspection in good],
        base=base,
        settings=settings,
    )
    bad = {finding.row for finding in of_rows if finding.severity == "error"}
    return Inspected(
        source=source,
        modality=modality.name,
        ledger=ledger,
        findings=(*findings, *judged.findings, *of_rows),
        policy=policy,
        judged=judged,
        good=tuple(good),
        bad=frozenset(bad),
        spare=frozenset({copy.row for copy in copies if copy.severity != "error"} - bad),
        links=tuple((finding.row, finding.other) for finding in of_rows if finding.other),
        quarantined=(*lost, *(row.id for row in judged.rows if row.id in bad)),
    )


@dataclass(frozen=True)
class Inspected:
    """The rows of a source with their findings, before they are divided.

    Attributes:
        source, modality: as in `Dataset`.
        ledger: of the source's files and lines.
        findings: about lines, files and rows.
        good: the rows whose files can be used, with what was seen of them.
        bad: ids of those among them that have an error nevertheless.
        spare: ids of copies, which are left out.
        links: pairs of rows that must be in one split.
        quarantined: ids or places of the rows that have errors.
        policy: by which the rows were judged.
        judged: the result: the rows that it refuses aren't among the others.
    """

    source: Path
    modality: str
    ledger: Ledger
    findings: tuple[Finding, ...]
    good: tuple[tuple[Row, Inspection], ...]
    bad: frozenset[str]
    spare: frozenset[str]
    links: tuple[tuple[str, str], ...]
    quarantined: tuple[str, ...]
    policy: Policy
    judged: Judged

    def hashes(self) -> dict[Path, str]:
        """SHA-256 of the files of good rows that were hashed whole."""
        return {
            Path(row.files[name]): digest
            for row, seen in self.good
            for name, digest in seen.hashes.items()
        }

    def divided(
        self,
        options: DataOptions,
        *,
        strict: bool = True,
        divide: bool = True,
        record: bool = False,
        earlier: Collection[str] = (),
    ) -> Dataset:
        """Divide the rows into splits; arguments and errors are those of `check`."""
        ledger = self.ledger.copy()
        free = [row for row, _ in self.good if row.id not in self.bad | self.spare]
        stopping = [finding for finding in self.findings if finding.kind in STOPPING]

        def accepts(found: Assigned[Row]) -> bool:
            errors = len(self.quarantined)
            share = errors / (errors + len(free) + len(self.spare))
            good_enough = bool(found.rows) and share <= options.max_bad
            return good_enough and not found.refused and not stopping

        findings = list(self.findings)
        divided, fingerprint = Assigned(free), ""
        if divide and free:
            if earlier:
                shares = (options.validation, options.test)
                divided = assign(free, *shares, links=self.links, keep_leaks=True)
                fingerprint = _fingerprint(divided.rows)
            if fingerprint not in earlier:
                divided = assign_and_keep(
                    free, self.source, options, self.links, record=record, accepts=accepts
                )
                fingerprint = ""
            findings += _of_splits(divided, options, ledger)
        kept = divided.rows
        used = {row.id for row in kept}
        spare = (row.id for row, _ in self.good if row.id in self.spare)
        dataset = Dataset(
            source=self.source,
            modality=self.modality,
            rows=tuple(kept),
            findings=tuple(_placed(each, ledger) for each in findings),
            quarantined=self.quarantined,
            facts={row.id: seen.facts for row, seen in self.good if row.id in used},
            fingerprint=fingerprint or _fingerprint(kept),
            guesses=tuple(ledger.guesses.values()),
            files=ledger.counts(),
            lines={name: (each.found, each.used) for name, each in ledger.items.items()},
            withheld=(*divided.left_out, *spare, *self.judged.ids),
            refused=self.judged.refused,
            policy=self.policy,
            made_by=_BY_CHECK,
        )
        if strict and (refused := [*stopping, *divided.refused]):
            messages = "; ".join(each.message for each in refused)
            raise DataError(printable(f"{self.source}: {messages}"), refused[0].cure)
        if strict and (dataset.bad > options.max_bad or not dataset.rows):
            raise _refusal(dataset, options.max_bad)
        return dataset


def _of_splits(divided: Assigned[Row], options: DataOptions, ledger: Ledger) -> list[Finding]:
    """The findings about the splits; note rows that the data doesn't name as validation."""
    if divided.drawn:
        source = "the data names train and test; the validation is drawn from train"
        first = divided.drawn[0]
        ledger.guess(Guess("split", "validation", source, len(divided.drawn), first))
    wanted: list[tuple[Split, float]] = [("validation", options.validation), ("test", options.test)]
    return [
        *divided.findings,
        *shared_by_splits(divided.rows, options.shared),
        *missing_splits(divided.rows, wanted),
    ]


def _unused_files(
    source: Path, modality: Reader, ledger: Ledger, rows: Iterable[Row]
) -> list[Finding]:
    """Make a finding for each file of a folder that none of its rows uses.

    Args:
        source: the manifest or folder.
        modality: the modality of the rows.
        ledger: of the folder, after `read_rows`.
        rows: all rows, also those that can't be used.
    """
    root = root_of(source)
    ledger.use(Used(ledger_path(source)))
    if (policy := policy_beside(source)) is not None:
        ledger.use(Used(policy))
    for row in rows:
        for written in row.files.values():
            ledger.use(Used(root / written))
    listed = source.is_dir() and bool(manifests_of(source))
    media = modality.row.media
    suffixes = {Path(str(getattr(row, media))).suffix.lower() for row in rows} if media else set()
    if listed:
        suffixes.update(modality.row.suffixes)
    unnamed = {
        key: path.name
        for name, path in ledger.files.items()
        if name not in ledger.state and path.suffix.lower() in suffixes - {""}
        for key in (path, path.with_suffix(""))  # call.wav has call.txt or call.wav.txt
    }

    def reason_of(path: Path) -> Reason | None:
        if path.suffix.lower() in suffixes - {""}:
            found = f"no row of the manifest names it as {media}"
            return Reason("unnamed", found, "add a row for it, or remove it")
        if path.name in (WHOLE, *BY_SPLIT):
            found = (
                f"this manifest isn't read; {WHOLE} and train.jsonl are read only in the folder "
                "that you name"
            )
            return Reason("unused-table", found, f"check it by its own name: mmtune check {path}")
        if path.suffix.lower() == ".txt" and listed:
            if beside := unnamed.get(path.with_suffix("")):
                found = f"its file {beside} isn't in the manifest"
                cure = f"add a row for {beside} with this text, or remove both"
                return Reason("unused-text", found, cure, "note")
            return Reason("unused-text", "the manifest holds the texts", "remove it", "note")
        return None

    return ledger.findings(reason_of)


def _placed(finding: Finding, ledger: Ledger) -> Finding:
    """Add the file and line of the finding's row; files are named by their place in the folder."""
    file, line = finding.file, finding.line
    if not file:
        file, line = ledger.places.get(finding.row, ("", None))
    return replace(finding, file=ledger.name_of(file), line=line) if file else finding


def _refusal(dataset: Dataset, max_bad: float) -> DataError:
    errors = [finding for finding in dataset.findings if finding.severity == "error"]
    if not dataset.rows and not errors and dataset.refused:
        return _all_refused(dataset)
    if not dataset.found:  # nothing could become a row, and the warnings say why
        errors = [finding for finding in dataset.findings if finding.severity == "warning"]
    kinds = Counter(finding.kind for finding in errors)
    counted = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    first = "".join(f"\n  {line}" for line in _in_full(errors[:3]))
    share = f"; at most {max_bad:.0%} of the rows may be bad" if dataset.rows else ""
    cure = f"list all errors with mmtune check {dataset.source} --all"
    if dataset.rows:
        cure += f"; correct these rows, or train without them: --max_bad {dataset.bad + 0.005:.2f}"
    lost = f"{len(dataset.quarantined)} of {dataset.found} rows can't be used{share}"
    if not dataset.found:
        lost = "no file could become a row"
    kind = DataError if dataset.rows else NothingToUse
    return kind(f"{printable(str(dataset.source))}: {lost} ({counted}){first}", cure)


def _all_refused(dataset: Dataset) -> DataError:
    first = next(each for each in dataset.findings if each.kind in dataset.refused)
    (line,) = _in_full([first])
    by = f" by {dataset.policy.place}" if dataset.policy.place else ""
    return DataError(
        f"{printable(str(dataset.source))}: no row is left; {sum(dataset.refused.values())} are "
        f"quarantined{by} ({refusal_counts(dataset.refused)})\n  {line}",
        f"list them with mmtune check {dataset.source} --all; correct the rows or the policy",
    )


def _inspect_all(
    rows: Sequence[Row],
    root: Path,
    modality: Reader,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[Row, Inspection]]:
    def inspect(row: Row) -> tuple[Row, Inspection]:
        resolved = resolve_paths(row, root)
        if isinstance(resolved, Finding):
            return row, Inspection("", [resolved])
        try:
            return resolved, modality.inspect(resolved)
        except Exception as error:  # an unexpected decoder error must not end the whole check
            what = resolved.path if resolved.media else f"row {row.id!r}"
            found = f"{what} can't be read: {type(error).__name__}: {error}"
            unreadable = Finding("unreadable", row.id, found, "replace the file, or remove the row")
            return resolved, Inspection("", [unreadable])

    # Decoders and hash functions release the interpreter's lock, so threads run in parallel.
    workers = min(16, (os.cpu_count() or 1) + 2)
    done: list[tuple[Row, Inspection]] = []
    # Pillow warns about problems that become findings here. The filter is global, so it is set
    # once outside the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for pair in pool.map(inspect, rows):
            done.append(pair)
            if progress is not None:
                progress(len(done), len(rows))
    return done


def resolve_paths(row: Row, root: Path) -> Row | Finding:
    """Make a row's paths absolute; a path outside the manifest's folder gives a finding."""
    resolved = {}
    for name, written in row.files.items():
        try:
            path = (root / written).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            found = f"{written!r} is not a valid path: {error}"
            return Finding("missing", row.id, found, "correct the path")
        if not path.is_relative_to(root):
            if (linked := snapshot_link(root, written)) is not None:
                resolved[name] = str(linked)
                continue
            return Finding(
                "outside",
                row.id,
                f"{written!r} is outside the manifest's folder: {path}",
                "move or copy the file into the folder; a manifest may not use files elsewhere",
            )
        resolved[name] = str(path)
    return row.model_copy(update=resolved)


def _fingerprint(rows: Iterable[Row]) -> str:
    return hash_json(sorted((_identity(row) for row in rows), key=lambda row: str(row["id"])))


def _identity(row: Row) -> dict[str, object]:
    absent = {name for name in row.beside if getattr(row, name) is None}
    values = row.model_dump(mode="json", exclude={row.media} | absent | row.unhashed)
    # Whether a row has such a file counts, where the file lies doesn't; `content` hashes its bytes.
    return values | {name: True for name in row.beside if name in values}


def usable_rows(manifest: Path, reader: Reader) -> tuple[Sequence[Row], list[str]]:
    """Read the usable rows of a manifest.

    Rows that the policy beside it refuses to have measured aren't among them.

    Returns:
        The usable rows, and one line for each error of the others.

    Raises:
        DataError: the manifest can't be used, or no row is usable.
    """
    rows, findings = read_rows(manifest, reader)
    judged = judge_rows(rows, find_policy(None, manifest), "evaluate")
    usable: list[Row] = []
    for row in judged.rows:
        resolved = resolve_paths(row, root_of(manifest))
        if isinstance(resolved, Row):
            usable.append(resolved)
        else:
            findings.append(resolved)
    if not usable:
        raise DataError(
            f"{manifest} holds no usable row", f"list its errors with mmtune check {manifest}"
        )
    wrong = [finding for finding in findings if finding.severity == "error"]
    wrong += [finding for finding in judged.findings if finding.kind in judged.refused]
    return usable, [f"{manifest}: {finding.row}: {finding.message}" for finding in wrong]
