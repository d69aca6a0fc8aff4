"""Measure a finished adapter on other data, or against another adapter on the same rows.

The comparison of two adapters is stored as `against.json`, in the form of a run's comparison, with
a page of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.adapters.adapter_rights import ended_note
from mmtune.adapters.adopt import find_foreign
from mmtune.adapters.named_base import base_identity, base_of
from mmtune.errors import AdapterError
from mmtune.evaluation.answers import forget
from mmtune.evaluation.comparison import Comparison, read_comparison, write_comparison
from mmtune.evaluation.verdict import read_verdict
from mmtune.metrics.measure import Measure, interval_text
from mmtune.pages.content import stricter
from mmtune.pages.figures import reading
from mmtune.pages.report import PAGE
from mmtune.runs.against_page import AGAINST_FILE, write_against_page
from mmtune.runs.folder import SUITE_FILE
from mmtune.runs.measured_adapter import MeasuredAdapter, find_adapter
from mmtune.runs.other_data import results_folder, results_in, rows_to_measure
from mmtune.runs.pipeline import Evaluation, measure, quarantine_note, suite_for
from mmtune.runs.recipes import load_run
from mmtune.system.display import Displayed, Rows
from mmtune.system.processes import this_process, together


@dataclass(frozen=True)
class Against(Displayed):
    """An adapter measured against another one on the same rows.

    Attributes:
        folder: of the results.
        adapter, other: the two adapters' paths.
        comparison: `base` of its measures is the other adapter, `difference` is adapter - other.
        page: shows the result in words, and examples in which the two differ.
    """

    folder: Path
    adapter: Path
    other: Path
    comparison: Comparison
    page: Path

    @property
    def sentence(self) -> str:
        """The first measure in words."""
        if not self.comparison.measures:
            return f"{self.adapter} and {self.other}: nothing was measured"
        first = self.comparison.measures[0]
        found = {"better": "is better than", "worse": "is worse than"}.get(
            reading(first), "doesn't clearly differ from"
        )
        return (
            f"{self.adapter} {found} {self.other}: {first.metric} on {first.slice} "
            f"{first.base.value:.3f} → {first.adapter.value:.3f}, "
            f"{interval_text(first.difference, signed=True)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: paths and the comparison."""
        return {
            "folder": str(self.folder),
            "adapter": str(self.adapter),
            "other": str(self.other),
            "comparison": self.comparison.to_dict(),
            "page": str(self.page),
        }

    def shown(self) -> Iterable[str | Rows]:
        """Show the first measure in words, a table of all measures, and notes."""
        head = ["metric", "on", "items", str(self.other), str(self.adapter), "difference", ""]
        rows = [_cells(each) for each in self.comparison.measures]
        notes = (f"note     {note}" for note in self.comparison.notes)
        places = [f"results  {self.folder / AGAINST_FILE}", f"report   {self.page}"]
        return [self.sentence, [head, *rows], *places, *notes]


def _cells(each: Measure) -> list[str]:
    return [
        *(each.metric, each.slice, str(each.items)),
        *(interval_text(each.base), interval_text(each.adapter)),
        *(interval_text(each.difference, signed=True), reading(each)),
    ]


def evaluate_on(
    adapter: Path,
    data: Path | None,
    suite: str | None = None,
    fresh: bool = False,
    *,
    base: str | None = None,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Compare an adapter with its base on other data; see `mmtune.evaluate`.

    Args:
        adapter: a run folder or an adapter folder.
        data: a manifest or folder; None: the run's own test rows.
        suite: the suite to judge by; None: the run's own.
        fresh: ignore stored answers and run the models again.
        base: the base model; None: the one that the adapter names.
        out: the folder of the results; None: `results_folder`.
        settings: changes to the settings.

    Raises:
        MmtuneError: the adapter, the data, a setting or the folder can't be used.
    """
    from mmtune.prefix.cache import pinning

    found = find_adapter(adapter, base, settings)
    place = results_folder(found, data, None, out)
    suite = suite or _suite_of(place, found)
    gates = suite_for(suite, found.modality.name) if suite else None
    with pinning(), together():
        rows = rows_to_measure([found], data)
        with results_in(place, _fitting(found, rows.trained), data) as config:
            if fresh and this_process().is_main_process:
                forget(place)
            notes = (*found.notes, *rows.notes)
            comparison = measure(config, rows.dataset, gates, again=True, keep=suite, notes=notes)
    return Evaluation(folder=place, comparison=comparison, verdict=read_verdict(place))


def evaluate_against(
    adapter: Path,
    other: Path,
    data: Path | None = None,
    fresh: bool = False,
    *,
    base: str | None = None,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Against:
    """Compare two adapters on the same rows, paired; see `mmtune.evaluate`.

    Adapters on different bases are each measured on their own, where the modality can do that.

    Args:
        adapter, other: run folders or adapter folders.
        data: a manifest or folder; None: the test rows of the first one's run, without rows that
            the other one was trained on.
        fresh, base, out, settings: as for `evaluate_on`; the settings of `adapter` hold for both.

    Raises:
        MmtuneError: an adapter, the data, a setting or the folder can't be used.
    """
    from mmtune.data.rights_file import keep_rights
    from mmtune.prefix.cache import pinning

    first = find_adapter(adapter, base, settings)
    foreign = find_foreign(other) if other.exists() else None
    usual = first.config.base
    second = find_adapter(other, base or (foreign.base_beside(usual) if foreign else usual))
    if first.modality.name != second.modality.name:
        raise AdapterError(
            f"{adapter} is an adapter for {first.modality.name}, {other} for "
            f"{second.modality.name}",
            "compare adapters of one modality",
        )
    if first.digest == second.digest:
        raise AdapterError(f"{adapter} and {other} have the same weights", "name another adapter")
    other_base = _other_base(first, second, base)
    place = results_folder(first, data, second, out)
    process = this_process()
    with pinning(), together():
        rows = rows_to_measure([first, second], data)
        fitting = _as_private(_fitting(first, rows.trained), second)
        other_path = second.run or second.place
        with results_in(place, fitting, data, other_path, other_base) as config:
            if fresh and process.is_main_process:
                forget(place)
            if process.is_main_process:
                keep_rights(place, rows.dataset)
            found = first.modality.compare_two(
                config, rows.dataset, place, second.folder, other_base
            )
            if found is not None and process.is_main_process:
                cards = (each.card for each in (first, second) if each.card is not None)
                ended = [note for card in cards if (note := ended_note(card, card.name))]
                ended += quarantine_note(rows.dataset)
                found = dataclasses.replace(found, notes=[*first.notes, *rows.notes, *ended])
                write_comparison(place, found, AGAINST_FILE)
                write_against_page(place, lock=False)
            process.wait_for_everyone()
    compared = read_comparison(place, AGAINST_FILE)
    return Against(place, first.given, second.given, compared, place / PAGE)


def _other_base(first: MeasuredAdapter, second: MeasuredAdapter, named: str | None) -> str | None:
    """The base of the second adapter, if its card names another one than the first one stands on.

    Raises:
        AdapterError: the modality compares adapters of one base only.
        BaseModelError: only the card names that base, and it would have to be downloaded.
    """
    if named is not None or first.card is None or second.card is None:
        return None
    ours, theirs = first.card, second.card
    known = bool(ours.base_hash and theirs.base_hash)
    same = base_identity(ours.base) == base_identity(theirs.base)
    if (ours.base_hash == theirs.base_hash) if known else same:
        return None
    if first.modality.compares_bases:
        own = theirs.base if second.run is None else load_run(second.run).base
        return base_of(own, second.folder)
    raise AdapterError(
        f"{first.given} was trained on the base {ours.base}, {second.given} on {theirs.base}",
        "compare adapters of one base, or measure each with its own: mmtune evaluate "
        f"{first.given} --data DATA; mmtune evaluate {second.given} --data DATA",
    )


def _as_private(first: MeasuredAdapter, second: MeasuredAdapter) -> MeasuredAdapter:
    """The first adapter, with the stricter policy of both for what a page may show."""
    content = stricter(first.config.report.content, second.config.report.content)
    report = first.config.report.model_copy(update={"content": content})
    return dataclasses.replace(first, config=first.config.model_copy(update={"report": report}))


def _fitting(found: MeasuredAdapter, trained: bool) -> MeasuredAdapter:
    """The adapter with settings that need no training rows, if these aren't here."""
    if trained:
        return found
    return dataclasses.replace(found, config=found.modality.without_training(found.config))


def _suite_of(place: Path, found: MeasuredAdapter) -> str | None:
    """The suite of earlier results, or of the run."""
    for folder in (place, found.run):
        if folder is not None and (folder / SUITE_FILE).is_file():
            return str(folder / SUITE_FILE)
    return found.config.suite
