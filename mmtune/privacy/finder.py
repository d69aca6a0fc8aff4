"""`PrivateWordFinder`: find private words in a text or in the turns of a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from mmtune.errors import ConfigError
from mmtune.privacy.account_numbers import (
    account_part,
    find_grouped_numbers,
    is_year,
    without_amounts,
)
from mmtune.privacy.atoms import Atom, read_atoms
from mmtune.privacy.birth_dates import find_dates
from mmtune.privacy.cards import find_cards
from mmtune.privacy.code_runs import CodeRun, code_runs, stretches
from mmtune.privacy.contexts import Context, OpenContexts, find_contexts
from mmtune.privacy.email_addresses import find_spoken_emails, find_written_emails
from mmtune.privacy.ibans import find_ibans, find_written_ibans
from mmtune.privacy.name_model import NameModel
from mmtune.privacy.names import ListedNames
from mmtune.privacy.phone_numbers import (
    FEWEST_ANNOUNCED,
    MOST_ANNOUNCED,
    REGIONS,
    extension_end,
    find_phones,
    has_plus,
    is_area_code,
    number_start,
    require_regions,
)
from mmtune.privacy.private_span import KINDS, REPLACED, PrivateSpan, merge_spans, replace_spans
from mmtune.privacy.spoken_words import LANGUAGES

_LINE = re.compile(r"[^\s](?:[^\r\n]*[^\s])?")
FEWEST_CARD = 8  # digits after a word such as "card" that count as its number, wrong ones too


class PrivateWordFinder:
    """Find private words: in digits and letters, and as they are spoken.

    Args:
        names: names to find, in all their forms.
        name_model: an installed spaCy model that finds further names.
        regions: countries' codes, for phone numbers without one; empty: those of the language.
        account_words: further words that announce account and record numbers.
        kinds: what to find; see `KINDS`.

    Raises:
        ConfigError: an unknown kind or region, or the model can't be used.
        MissingExtra: `phonenumbers` or spaCy isn't installed.
    """

    def __init__(
        self,
        *,
        names: Iterable[str] = (),
        name_model: str | None = None,
        regions: Sequence[str] = (),
        account_words: Sequence[str] = (),
        kinds: Sequence[str] = KINDS,
    ) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise ConfigError(
                    f"{kind!r} is no kind of private words", f"known: {', '.join(KINDS)}"
                )
        require_regions(regions)
        self._names = ListedNames(names)
        self._model = NameModel(name_model) if name_model is not None else None
        self._regions = tuple(regions)
        self._account_words = tuple(account_words)
        self._kinds = frozenset(kinds)

    @property
    def searches_unlisted_names(self) -> bool:
        """Whether names beyond the list are searched."""
        return self._model is not None

    def find(self, text: str, language: str | None = None) -> list[PrivateSpan]:
        """Find the private words of a text.

        Args:
            text: any text.
            language: one of `LANGUAGES`; None: the text is read in all of them.

        Returns:
            Spans in order and without overlaps; none goes over the end of a line. The text that
            `replace_spans` makes of them holds no private word that this would find.
        """
        languages = list(LANGUAGES) if language is None else [language]
        current, found = text, []
        # Where each character of `current` comes from. A replacement may bring an announcing word
        # near another number, so the redacted text is searched again, until nothing is found.
        origin = [(place, place + 1) for place in range(len(text))]
        while spans := self._once(current, languages):
            found += [PrivateSpan(origin[s.start][0], origin[s.end - 1][1], s.kind) for s in spans]
            moved, place = [], 0
            for span in spans:
                whole = (origin[span.start][0], origin[span.end - 1][1])
                moved += [*origin[place : span.start], *[whole] * len(span.replacement)]
                place = span.end
            origin = [*moved, *origin[place:]]
            current = replace_spans(current, spans)
        return merge_spans(found)

    def find_in_turns(
        self, turns: Sequence[str], language: str | None = None
    ) -> list[list[PrivateSpan]]:
        """Find the private words of a conversation; a number may go on from turn to turn.

        Args:
            turns: the texts in the order in which they were said.
            language: as in `find`.

        Returns:
            For each turn its spans, with places in that turn.
        """
        starts = list(accumulate((len(turn) + 1 for turn in turns), initial=0))
        spans = self.find("\n".join(turns), language)
        return [
            [
                PrivateSpan(span.start - start, span.end - start, span.kind)
                for span in spans
                if start <= span.start < end
            ]
            for start, end in zip(starts, starts[1:], strict=False)
        ]

    def _once(self, text: str, languages: Iterable[str]) -> list[PrivateSpan]:
        found = [
            PrivateSpan(*place, kind)
            for language in languages
            for kind, *place in self._in_language(text, language)
        ]
        if self._model is not None:
            found += [PrivateSpan(*place, "name") for place in self._model.find(text)]
        kept = []
        for span in found:
            overlaps = any(
                match.start() < span.end and span.start < match.end()
                for match in REPLACED.finditer(text)
            )
            if span.kind in self._kinds and not overlaps:
                kept += _lines_of(text, span)
        return merge_spans(kept)

    def _in_language(self, text: str, language: str) -> Iterator[tuple[str, int, int]]:
        words = LANGUAGES[language]
        atoms = read_atoms(text, language)
        for start, end in find_written_ibans(text):
            yield "iban", start, end
        for start, end in [*find_written_emails(text), *find_spoken_emails(text, atoms, words)]:
            yield "email", start, end
        for start, end in self._names.find(text, atoms):
            yield "name", start, end
        for start, end in find_grouped_numbers(text):
            yield "account", start, end
        yield from self._numbers(text, atoms, language)

    def _numbers(
        self, text: str, atoms: Sequence[Atom], language: str
    ) -> Iterator[tuple[str, int, int]]:
        """Cards, IBANs, phones, dates of birth and account numbers, in the order of the text."""
        words = LANGUAGES[language]
        contexts = OpenContexts(text, find_contexts(text, language, self._account_words))
        runs = list(code_runs(text, atoms, words))
        bounds = {(run.start, run.end) for run in runs}
        dates = [
            date
            for date in find_dates(text, atoms, words)
            if date.is_clear or date.is_year or (date.start, date.end) in bounds
        ]
        births: list[tuple[int, int]] = []
        for date in dates:
            context = contexts.before(date.start, "birth", once=True)
            if context is None:
                context = contexts.after(date.end, "birth")
            announced = context is not None and context.meaning == "birth"
            if announced or (date.is_old and date.is_clear):
                if announced:
                    contexts.answer(context)
                births.append((date.start, date.end))
                yield "birth", date.start, date.end
        plain_dates = [(d.start, d.end) for d in dates if d.is_clear and not d.is_year]
        for run in runs:
            checked = list(_checked(run))
            for kind, part in checked:
                contexts.answer(contexts.before(run.start, "card", "account"))
                yield from ((kind, *place) for place in stretches(text, part))
            rest = without_amounts(run, atoms, words)
            dated = [*births, *plain_dates]
            if checked or rest is None or is_year(rest, atoms):
                continue
            if not any(a <= rest.start and rest.end <= b for a, b in dated):
                yield from self._announced(text, rest, atoms, language, contexts)

    def _announced(
        self,
        text: str,
        run: CodeRun,
        atoms: Sequence[Atom],
        language: str,
        contexts: OpenContexts,
    ) -> Iterator[tuple[str, int, int]]:
        """Numbers that the words around them tell, and phone numbers."""
        context = contexts.before(run.start, "card", "phone", "account")
        if context is None:
            context = contexts.after(run.end, "card", "phone", "account")
        meaning = "phone" if context is None else context.meaning
        if meaning in ("phone", "other", "birth"):
            found = list(self._phones(text, run, atoms, language, context))
        elif meaning == "card" and len(run.digits) >= FEWEST_CARD:
            found = [("card", *place) for place in stretches(text, run)]
        else:
            assert context is not None
            part = account_part(run, context, text[context.start : context.end])
            found = [] if part is None else [("account", *p) for p in stretches(text, part)]
        yield from found
        if found and context is not None:
            contexts.answer(context)

    def _phones(
        self,
        text: str,
        run: CodeRun,
        atoms: Sequence[Atom],
        language: str,
        context: Context | None,
    ) -> Iterator[tuple[str, int, int]]:
        words = LANGUAGES[language]
        first = atoms.index(run.atoms[0])
        plus = has_plus(text, atoms, first, words)
        announced = context is not None and context.meaning == "phone"
        if context is not None and context.meaning == "other" and not plus:
            return
        regions = self._regions or REGIONS[language]
        parts = list(find_phones(run, regions, international=plus, announced=announced))
        if not parts and announced and context is not None:
            area = is_area_code(text[context.start : context.end])
            if (2 if area else FEWEST_ANNOUNCED) <= len(run.digits) <= MOST_ANNOUNCED:
                parts = [run]  # as it was heard, which may be wrong
        for part in parts:
            places = list(stretches(text, part))
            places[0] = (number_start(text, atoms, atoms.index(part.atoms[0]), words), places[0][1])
            end = extension_end(text, atoms, atoms.index(part.atoms[-1]))
            places[-1] = (places[-1][0], max(end, places[-1][1]))
            yield from (("phone", *place) for place in places)


def _checked(run: CodeRun) -> Iterator[tuple[str, CodeRun]]:
    """Numbers that their check digits tell."""
    for part in find_ibans(run):
        yield "iban", part
    for part in find_cards(run):
        yield "card", part


def _lines_of(text: str, span: PrivateSpan) -> Iterator[PrivateSpan]:
    """A span's parts in each line that aren't empty."""
    for match in _LINE.finditer(text, span.start, span.end):
        yield PrivateSpan(*match.span(), span.kind)
