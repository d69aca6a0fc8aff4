"""A user's rules as pages show them: what the rules say, and whether results keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mmtune.data.rule_result import RuleResult


@dataclass(frozen=True)
class GuidePart:
    """One part of a user's rules.

    Attributes:
        title: what it is, such as "Palette".
        texts: its lines.
        swatches: colours as `#rrggbb`, by name.
        pictures: files of the run folder, by name.
    """

    title: str
    texts: list[str] = field(default_factory=list)
    swatches: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Guide:
    """The rules that a user has written down, and whether results keep them.

    Attributes:
        title: of the whole.
        parts: what it says, for people.
        rules: what was judged of it.
    """

    title: str
    parts: list[GuidePart] = field(default_factory=list)
    rules: list[RuleResult] = field(default_factory=list)


def without_contents(guide: Guide) -> Guide:
    """The outcomes and counts alone, without what the rules say and which items break them."""
    return Guide("Rules", [], [_without_texts(rule) for rule in guide.rules])


def _without_texts(rule: RuleResult) -> RuleResult:
    judged = {name: replace(each, reason="", breaches=()) for name, each in rule.judged.items()}
    return RuleResult(rule.name, "", "", judged)


def broken_by(rules: Sequence[RuleResult], group: str) -> list[str]:
    """Names of the rules that a group of items breaks."""
    return [
        rule.name
        for rule in rules
        if group in rule.judged and rule.judged[group].outcome == "broken"
    ]
