"""Spellings that count as right: a table that the report shows, and that is applied to texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmtune.metrics.measure import Table
from mmtune.metrics.text.normalize import normalize


class Variants:
    """Writes every variant of a term as the term, in normalized text: whole words, longest first.

    Without variants it is false, and leaves text as it is.

    Args:
        table: other spellings by term, as a person writes them.
        language: of the terms.
    """

    def __init__(self, table: Mapping[str, Sequence[str]], language: str = "en") -> None:
        self.table = {term: tuple(others) for term, others in table.items() if others}
        self._terms: dict[str, str] = {}
        for term, others in self.table.items():
            own = normalize(term, language)
            for other in others:
                if (key := normalize(other, language)) != own:
                    self._terms[key] = own
        # The terms themselves are found too, so that no variant is found within one.
        known = {*self._terms, *self._terms.values()}
        inner = "|".join(map(re.escape, sorted(known, key=lambda key: (-len(key), key))))
        self._pattern = re.compile(rf"(?<!\S)(?:{inner or '(?!)'})(?!\S)")

    def __bool__(self) -> bool:
        return bool(self._terms)

    def __call__(self, normalized: str) -> str:
        """The text with terms in the place of their variants."""
        if not self._terms:
            return normalized
        return self._pattern.sub(lambda m: self._terms.get(m.group(), m.group()), normalized)

    def tables(self) -> list[Table]:
        """What the report shows; nothing where there are none."""
        if not self:
            return []
        rows = [[term, ", ".join(others)] for term, others in self.table.items()]
        return [Table("Spellings that count as right", ["term", "counts as it"], rows)]


STRICT = Variants({})
