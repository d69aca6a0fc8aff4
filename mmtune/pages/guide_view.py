"""A user's rules on a page: colours as swatches, pictures as data URIs, outcomes as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mmtune.data.rule_result import RuleResult, rule_table
from mmtune.evaluation.shown_guide import Guide
from mmtune.pages.content import SMALL_SIDE, embed
from mmtune.pages.sources import Sources

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
MARKS = {"kept": "✓", "broken": "✗", "not measurable": "?"}


@dataclass(frozen=True)
class PartView:
    """One part of a guide: its lines, colours by name, and pictures by name as data URIs."""

    title: str
    texts: list[str]
    swatches: list[tuple[str, str]]
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class GuideView:
    """A guide as the templates show it.

    Attributes:
        title: of the whole.
        parts: what it says.
        head: of the table of outcomes.
        rows: of that table: the rule, its words, and of each group of items the outcome's mark, its
            name and its words.
        broken: the rules that are broken, whose items and cure are shown.
    """

    title: str
    parts: list[PartView]
    head: list[str]
    rows: list[tuple[str, str, list[tuple[str, str, str]]]]
    broken: list[RuleResult]


def view_guide(guide: Guide, sources: Sources, names: Mapping[str, str] | None = None) -> GuideView:
    """Prepare a guide for a page.

    Args:
        guide: of a comparison; its text isn't trusted, so what is no colour has no swatch, and
            only files of the run folder are shown.
        sources: the folders whose files the page may show.
        names: other names of the groups of items.
    """
    parts = [
        PartView(
            part.title,
            part.texts,
            [(name, c) for name, c in part.swatches.items() if _COLOUR.fullmatch(c)],
            _pictures(part.pictures, sources),
        )
        for part in guide.parts
    ]
    head, *table = rule_table(guide.rules, names or {})
    groups = list(dict.fromkeys(name for rule in guide.rules for name in rule.judged))
    rows = []
    for rule, (_, *texts) in zip(guide.rules, table, strict=True):
        marked: list[tuple[str, str, str]] = []
        for group, text in zip(groups, texts, strict=True):
            outcome: str = rule.judged[group].outcome if group in rule.judged else ""
            marked.append((MARKS.get(outcome, ""), outcome, text))
        rows.append((rule.name, rule.rule, marked))
    return GuideView(guide.title, parts, head, rows, [r for r in guide.rules if r.is_broken])


def _pictures(files: Mapping[str, str], sources: Sources) -> list[tuple[str, str]]:
    found = []
    for name, written in files.items():
        file = sources.in_run(written)
        data = embed(file, SMALL_SIDE) if file is not None else ""
        if data.startswith("data:image/"):
            found.append((name, data))
    return found
