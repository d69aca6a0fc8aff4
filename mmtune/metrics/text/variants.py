"""Spelling variants that count as right: they are applied to texts and shown in the report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mmtune.metrics.measure import Table
from mmtune.metrics.text.normalize import normalize


class Variants:
    """Replaces variants of terms by the terms in normalized text: whole words, longest first.

    Without variants the object is false and changes nothing.

    Args:
        table: other spellings by term, in normal spelling.
        language: language of the terms.
    """

    def __init__(self, table: Mapping[str, Sequence[str]], language: str = "en") -> None:
        self.table = {term: tuple(others) for term, others in table.items() if others}
        self._terms: dict[str, str] = {}
        for term, others in self.table.items():
            own = normalize(term, language)
            for other in others:
                if (key := normalize(other, language)) != own:
                    self._terms[key] = own
        # The pattern matches terms too, so that no variant is found inside a term.
        known = {*self._terms, *self._terms.values()}
        inner = "|".join(map(re.escape, sorted(known, key=lambda key: (-len(key), key))))
        self._pattern = re.compile(rf"(?<!\S)(?:{inner or '(?!)'})(?!\S)")

    def __bool__(self) -> bool:
        return bool(self._terms)

    def __call__(self, normalized: str) -> str:
        """Replace the variants in a text by their terms."""
        if not self._terms:
            return normalized
        return self._pattern.sub(lambda m: self._terms.get(m.group(), m.group()), normalized)

    def tables(self) -> list[Table]:
        """Make the report's table of variants; without variants there is none."""
        if not self:
            return []
        rows = [[term, ", ".join(others)] for term, others in self.table.items()]
        return [Table("Spellings that count as right", ["term", "other spellings"], rows)]


STRICT = Variants({})
