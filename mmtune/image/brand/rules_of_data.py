"""Which pictures and captions of a data set keep the rules of a brand's guide."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.rows import Row
from mmtune.data.rule_result import Breach, RuleResult, judge_items, not_measurable
from mmtune.errors import DataError, shortened
from mmtune.image.brand.brand_guide import BrandGuide
from mmtune.image.brand.forbidden_words import find_words
from mmtune.image.brand.picture_rules import picture_rules, read_reduced
from mmtune.image.corpus.evaluation_rows import measured_rows
from mmtune.image.corpus.prompt import prompt_of, wordings
from mmtune.image.pictures.alike import WIDE_BITS, KnownLooks, look_of, same_in_detail
from mmtune.image.pictures.pixels import decoded
from mmtune.system.hashing import hash_file

DATA = "data"
WORDS = "forbidden words"
THINGS = "forbidden things"
TRIGGER = "trigger"
REFERENCES = "reference pictures"
BY_THE_REPORT = "what a picture shows is judged by a model, in the report of a run"


def judge_data(
    guide: BrandGuide, rows: Sequence[Row], trigger: str, background: str
) -> list[RuleResult]:
    """Judge the rows of a data set by each rule of a guide.

    Args:
        guide: the guide.
        rows: usable rows with absolute paths, each with its split.
        trigger: the phrase that training puts before captions; empty: none.
        background: colour behind transparent parts.
    """
    results = _judge_pictures(guide, rows, background)
    if guide.forbidden_words:
        words = ", ".join(guide.forbidden_words)
        cure = "write the caption without the word"
        breaches = list(_with_words(guide, rows))
        result = RuleResult(WORDS, f"no caption has one of: {words}", cure)
        results.append(_judged(result, breaches, len(rows)))
    if guide.forbidden_things:
        things = "; ".join(guide.forbidden_things)
        rule = RuleResult(THINGS, f"no picture shows one of: {things}", "remove the picture")
        rule.judged[DATA] = not_measurable(BY_THE_REPORT)
        results.append(rule)
    if guide.trigger:
        cure = (
            f'train with --trigger "{guide.trigger}", which puts it before each caption (check '
            "with it, too), or write it into the captions"
        )
        breaches = list(_without_trigger(guide, rows, trigger))
        result = RuleResult(TRIGGER, f"each caption has {guide.trigger!r}", cure)
        results.append(_judged(result, breaches, len(rows)))
    if guide.references:
        result = RuleResult(
            REFERENCES,
            "each reference picture can be read, and results are measured on none of them",
            "correct the path in references, or name a picture of the train split",
        )
        breaches = list(_wrong_references(guide.references, rows))
        results.append(_judged(result, breaches, len(guide.references)))
    return results


def _judged(result: RuleResult, breaches: Sequence[Breach], items: int) -> RuleResult:
    judgement = judge_items(breaches, items) if items else not_measurable("there is no usable row")
    result.judged[DATA] = judgement
    return result


def _judge_pictures(guide: BrandGuide, rows: Sequence[Row], background: str) -> list[RuleResult]:
    rules = picture_rules(guide, background)

    def breaches_of(row: Row) -> list[str]:
        try:
            picture = read_reduced(row.path, background)
        except DataError as error:
            return [error.found] * len(rules)
        return [rule.breach(picture) for rule in rules]

    found: list[list[str]] = []
    if rules:
        with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 2)) as pool:
            found = list(pool.map(breaches_of, rows))
    results = []
    for place, rule in enumerate(rules):
        pairs = zip(rows, found, strict=True)
        breaches = [Breach(row.id, texts[place]) for row, texts in pairs if texts[place]]
        results.append(_judged(RuleResult(rule.name, rule.rule, rule.cure), breaches, len(rows)))
    return results


def _with_words(guide: BrandGuide, rows: Iterable[Row]) -> Iterator[Breach]:
    for row in rows:
        for caption in wordings(row):
            if found := find_words(caption, guide.forbidden_words):
                listed = ", ".join(map(repr, found))
                yield Breach(row.id, f"{listed} in the caption {shortened(repr(caption))}")
                break


def _without_trigger(guide: BrandGuide, rows: Iterable[Row], trigger: str) -> Iterator[Breach]:
    for row in rows:
        for caption in wordings(row):
            if not find_words(prompt_of(row, trigger, caption), [guide.trigger]):
                yield Breach(row.id, f"the caption is {shortened(repr(caption))}")
                break


def _wrong_references(references: Sequence[Path], rows: Sequence[Row]) -> Iterator[Breach]:
    """The references that can't be read, or are measured on, also in another size or format."""
    measured = _measured(rows)
    hashes = {each.content: each for each in measured}
    shown = [each for each in measured if each.look]
    known = KnownLooks(max(1, len(shown)))
    for each in shown:
        known.add(each.look)
    for path in references:
        try:
            own = _Picture.read(path)
        except DataError as error:
            yield Breach(path.name, error.found)
            continue
        same = hashes.get(own.content)
        if same is None and own.look:  # a blank picture looks like each other one
            alike = (shown[place] for place, _ in known.copies_of(own.look, WIDE_BITS))
            same = next((each for each in alike if same_in_detail(own.look, each.look)), None)
        if same is not None:
            yield Breach(path.name, f"{path} is the {same.split} picture {same.id!r}, or nearly so")


@dataclass(frozen=True)
class _Picture:
    """What tells a picture from others: the hash of its file, and `look_of`."""

    content: str
    look: bytes
    id: str = ""
    split: str | None = None

    @classmethod
    def read(cls, path: Path, id: str = "", split: str | None = None) -> _Picture:
        with decoded(path, reduced=True) as picture:
            return cls(hash_file(path), look_of(picture), id, split)


def _measured(rows: Sequence[Row]) -> list[_Picture]:
    """The pictures that results are measured on; those that can't be read are none."""
    found = []
    for row in measured_rows(rows):
        with suppress(DataError):
            found.append(_Picture.read(row.path, row.id, row.split))
    return found
