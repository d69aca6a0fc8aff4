"""Results of rules that a user has written down, in one form for checks, reports and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmtune.errors import printable

Outcome = Literal["kept", "broken", "not measurable"]


@dataclass(frozen=True)
class Breach:
    """One item that breaks a rule.

    Attributes:
        item: the row's id, or the name of what is wrong.
        found: what was found, with its figures.
    """

    item: str
    found: str


@dataclass(frozen=True)
class Judgement:
    """Whether some items keep a rule.

    Attributes:
        outcome: "broken" if one item breaks it.
        items: number of items that were judged.
        broken: number of those that break it.
        low, high: 95 % confidence interval of the share of broken items among further ones; None
            where the items are all that there are.
        reason: why it isn't measurable, or what the judgement doesn't see; may be empty.
        breaches: the items that break it; of many drawn ones only the first.
    """

    outcome: Outcome
    items: int = 0
    broken: int = 0
    low: float | None = None
    high: float | None = None
    reason: str = ""
    breaches: tuple[Breach, ...] = ()

    def __str__(self) -> str:
        if self.outcome == "not measurable":
            return f"{self.outcome}; {self.reason}" if self.reason else self.outcome
        counted = f"{self.broken} of {self.items}" if self.broken else f"all {self.items}"
        said = f"{self.outcome} by {counted}"
        if self.low is not None and self.high is not None:
            share = f"{self.low:.0%} to {self.high:.0%}" if self.low else f"up to {self.high:.0%}"
            said += f" (of many new ones, {share} may break it)"
        return f"{said}; {self.reason}" if self.reason else said


@dataclass(frozen=True)
class RuleResult:
    """A rule, and whether each group of items keeps it.

    Attributes:
        name: a short name, such as "palette".
        rule: the rule in words.
        cure: what to do where it is broken.
        judged: by the items' group: "data", or "base" and "adapter".
    """

    name: str
    rule: str
    cure: str
    judged: dict[str, Judgement] = field(default_factory=dict)

    @property
    def is_broken(self) -> bool:
        """Whether a group of items breaks it."""
        return any(each.outcome == "broken" for each in self.judged.values())


def judge_items(breaches: Sequence[Breach], items: int) -> Judgement:
    """The judgement of items that are all that there are.

    Args:
        breaches: one for each item that breaks the rule.
        items: number of items that were judged.
    """
    outcome: Outcome = "broken" if breaches else "kept"
    return Judgement(outcome, items, len(breaches), breaches=tuple(breaches))


def not_measurable(reason: str) -> Judgement:
    """The judgement of a rule that can't be measured."""
    return Judgement("not measurable", reason=reason)


def rule_lines(results: Iterable[RuleResult], examples: int = 5) -> list[str]:
    """Format the rules as lines for the terminal, the broken ones first.

    Args:
        results: the rules.
        examples: number of breaches of each rule to show.
    """
    lines: list[str] = []
    for result in sorted(results, key=lambda each: not each.is_broken):
        for judged in result.judged.values():
            lines.append(printable(f"rule {result.name} ({result.rule}): {judged}"))
            breaches = judged.breaches[:examples]
            lines += [printable(f"  {each.item}: {each.found}") for each in breaches]
            if len(judged.breaches) > examples:
                lines.append(f"  … and {len(judged.breaches) - examples} more")
        if result.is_broken:
            lines.append(printable(f"  Cure: {result.cure}"))
    return lines


def rule_table(results: Sequence[RuleResult], names: Mapping[str, str]) -> list[list[str]]:
    """The rules as a table, head first: one column for each group of items.

    Args:
        results: the rules.
        names: other names of the groups.
    """
    groups = list(dict.fromkeys(name for each in results for name in each.judged))
    head = ["rule", *(names.get(name, name) for name in groups)]
    return [
        head,
        *([each.name, *(str(each.judged.get(name) or "–") for name in groups)] for each in results),
    ]
