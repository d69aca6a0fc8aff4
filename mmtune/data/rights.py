"""What the rows behind an adapter allow, as counts: it names no person and no row.

An adapter's card carries it, so that every command that uses the adapter can compare it with a
policy and with the day. The sources of rows whose licence asks for attribution are the exception:
naming them is what such a licence asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mmtune.data.policy import IN_WORDS, Policy, Use, is_among, policy_of, refusal_counts
from mmtune.data.rows import Row
from mmtune.system.display import numbered


class Consents(BaseModel):
    """Rows with consent for the same purposes.

    Attributes:
        purposes: None: the rows state no consent; empty: consent to everything.
        rows: how many rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    purposes: tuple[str, ...] | None
    rows: int


class Credit(BaseModel):
    """A source that a licence asks to be named: the licence, the source, and its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    licence: str
    source: str
    rows: int


class Rights(BaseModel):
    """What the rows that an adapter learned from and was chosen by allow.

    Attributes:
        rows: how many rows.
        consents: rows by the purposes that were agreed to.
        ends: rows by the last day of their consent.
        licences: rows by licence; "" stands for rows that state none.
        credits: sources to be named.
        refused: rows of the data that the policy kept out of training, by reason.
        policy: the policy at the time of training; empty: there was no file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = 0
    consents: tuple[Consents, ...] = ()
    ends: dict[date, int] = Field(default_factory=dict)
    licences: dict[str, int] = Field(default_factory=dict)
    credits: tuple[Credit, ...] = ()
    refused: dict[str, int] = Field(default_factory=dict)
    policy: dict[str, Any] = Field(default_factory=dict)

    @property
    def kept_policy(self) -> Policy:
        """The policy at the time of training.

        Raises:
            ConfigError: it is of a newer mmtune.
        """
        return policy_of(self.policy, "the policy in the adapter's card")

    @property
    def earliest_end(self) -> date | None:
        """The first day on which a consent ends; None: none has an end."""
        return min(self.ends, default=None)

    @property
    def purposes(self) -> dict[str, int]:
        """Rows by purpose; a row with several counts for each."""
        found: Counter[str] = Counter()
        for each in self.consents:
            found.update(dict.fromkeys(each.purposes or (), each.rows))
        return dict(sorted(found.items()))

    def ended(self, today: date) -> int:
        """How many rows had a consent that has ended."""
        return sum(rows for end, rows in self.ends.items() if today > end)

    def refusals(self, use: Use, policy: Policy, today: date) -> dict[str, int]:
        """Rows that don't allow a use, by reason; a row may have several reasons."""
        rule, purposes = policy.rule(use)
        found: Counter[str] = Counter()
        found["consent-ended"] = self.ended(today)
        for each in self.consents:
            if each.purposes is None:
                found["consent-missing"] += each.rows if rule.consent == "required" else 0
            elif each.purposes and not set(each.purposes) & set(purposes):
                found["consent-purpose"] += each.rows
        for name, rows in self.licences.items() if rule.licences is not None else ():
            if not name:
                found["licence-missing"] += rows
            elif not is_among(name, rule.licences or ()):
                found["licence-refused"] += rows
        return {reason: found[reason] for reason in IN_WORDS if found[reason]}

    def lines(self) -> list[str]:
        """The counts in words, for a card and a page."""
        lines = []
        if stated := sum(each.rows for each in self.consents if each.purposes is not None):
            said = ", ".join(f"{name} {rows}" for name, rows in self.purposes.items())
            ends = f"; the first ends on {self.earliest_end}" if self.ends else ""
            named = f" ({said})" if said else ""
            lines.append(f"consent: {stated} of {numbered(self.rows, 'row')}{named}{ends}")
        if names := self.licence_counts():
            lines.append(f"licences of the data: {names}")
        if self.refused:
            lines.append(f"kept out of training by policy: {refusal_counts(self.refused)}")
        return lines

    def licence_counts(self) -> str:
        """The licences with their rows, "CC-BY-4.0 (90 rows), not stated (3 rows)"; "" if none."""
        if not any(self.licences):
            return ""
        named = sorted(self.licences.items(), key=lambda each: (-each[1], each[0]))
        return ", ".join(
            f"{name or 'not stated'} ({numbered(rows, 'row')})" for name, rows in named
        )

    def notice(self) -> str:
        """The text of NOTICE.txt; "" if no licence asks for attribution."""
        if not self.credits:
            return ""
        lines = ["This model was trained on data whose licences ask that its source is named.", ""]
        lines += [
            f"- {each.source} ({each.licence}; {numbered(each.rows, 'row')})"
            for each in self.credits
        ]
        return "\n".join(lines) + "\n"

    def shared(self) -> Rights:
        """A copy for the public: of the days only the first, and no policy."""
        first, total = self.earliest_end, sum(self.ends.values())
        ends = {} if first is None else {first: total}
        return self.model_copy(update={"ends": ends, "policy": {}})


def rights_of(rows: Iterable[Row], policy: Policy, refused: dict[str, int]) -> Rights | None:
    """Count what rows allow; None if they state nothing and there is no policy.

    Args:
        rows: those that an adapter learns from and is chosen by.
        policy: that of their data.
        refused: rows that it kept out, by reason.
    """
    listed = list(rows)
    if not policy.place and not any(row.consent or row.licence for row in listed):
        return None
    return _counted(
        rows=len(listed),
        consents=Counter(row.consent.purpose if row.consent else None for row in listed),
        ends=Counter(row.consent.until for row in listed if row.consent and row.consent.until),
        licences=Counter(row.licence or "" for row in listed),
        sources=Counter(
            (row.licence, row.source or "source not stated")
            for row in listed
            if row.licence is not None and is_among(row.licence, policy.attribution)
        ),
        refused=refused,
        policy=policy.model_dump(mode="json", exclude_defaults=True) if policy.place else {},
    )


def joined_rights(parts: Iterable[Rights | None]) -> Rights | None:
    """The rights of an adapter that several adapters or runs went into; None: none has any.

    The policy is the first one's; an adapter's uses are judged by the sum of all rows.
    """
    known = [part for part in parts if part is not None]
    if len(known) < 2:
        return known[0] if known else None
    consents: Counter[tuple[str, ...] | None] = Counter()
    ends: Counter[date] = Counter()
    licences: Counter[str] = Counter()
    sources: Counter[tuple[str, str]] = Counter()
    refused: Counter[str] = Counter()
    for part in known:
        consents.update({each.purposes: each.rows for each in part.consents})
        ends.update(part.ends)
        licences.update(part.licences)
        sources.update({(each.licence, each.source): each.rows for each in part.credits})
        refused.update(part.refused)
    return _counted(
        rows=sum(part.rows for part in known),
        consents=consents,
        ends=ends,
        licences=licences,
        sources=sources,
        refused=refused,
        policy=next((part.policy for part in known if part.policy), {}),
    )


def _counted(
    rows: int,
    consents: Mapping[tuple[str, ...] | None, int],
    ends: Mapping[date, int],
    licences: Mapping[str, int],
    sources: Mapping[tuple[str, str], int],
    refused: Mapping[str, int],
    policy: dict[str, Any],
) -> Rights:
    """Rights of counts, in a fixed order."""
    purposes = sorted(consents, key=lambda each: (each is not None, each or ()))
    return Rights(
        rows=rows,
        consents=tuple(Consents(purposes=names, rows=consents[names]) for names in purposes),
        ends=dict(sorted(ends.items())),
        licences=dict(sorted(licences.items())),
        credits=tuple(
            Credit(licence=licence, source=source, rows=count)
            for (licence, source), count in sorted(sources.items())
        ),
        refused=dict(refused),
        policy=policy,
    )
