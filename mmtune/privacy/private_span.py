"""`PrivateSpan`: a stretch of a text that is private, and what stands in its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmtune.data.rows import changed_text

# Kinds of private words, in the order in which overlapping spans take their kind.
REPLACEMENTS = {
    "iban": "[IBAN]",
    "card": "[CARD]",
    "email": "[EMAIL]",
    "phone": "[PHONE]",
    "birth": "[BIRTH DATE]",
    "account": "[ACCOUNT]",
    "name": "[NAME]",
}
KINDS = tuple(REPLACEMENTS)
REPLACED = re.compile("|".join(map(re.escape, REPLACEMENTS.values())))


@dataclass(frozen=True, order=True)
class PrivateSpan:
    """A stretch of private words.

    Attributes:
        start: place of its first character in the text.
        end: place after its last character.
        kind: one of `KINDS`.
    """

    start: int
    end: int
    kind: str

    @property
    def replacement(self) -> str:
        """What stands in its place in a redacted text."""
        return REPLACEMENTS[self.kind]


def merge_spans(spans: Iterable[PrivateSpan]) -> list[PrivateSpan]:
    """Join overlapping spans, so that all of them is covered; the first kind of `KINDS` counts."""
    merged: list[PrivateSpan] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            kind = min(last.kind, span.kind, key=KINDS.index)
            span = PrivateSpan(last.start, max(last.end, span.end), kind)
        merged.append(span)
    return merged


def replace_spans(text: str, spans: Sequence[PrivateSpan]) -> str:
    """Put each span's replacement in its place.

    Args:
        text: the text in which the spans were found.
        spans: sorted and without overlaps, as `PrivateWordFinder.find` gives them.
    """
    return changed_text(text, ((span.start, span.end, span.replacement) for span in spans))


def hide_replaced(text: str) -> str:
    """Put underscores in the place of what redaction has left, so that its words aren't read."""
    return REPLACED.sub(lambda match: "_" * len(match[0]), text)
