"""`PrivateWordFinder`: find private words in a text or in the turns of a conversation."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import itemgetter

from mmtune.errors import ConfigError
from mmtune.privacy.account_numbers import (
    find_grouped_numbers,
    is_account,
    is_year,
    without_amounts,
)
from mmtune.privacy.atoms import Atom, Reading
from mmtune.privacy.birth_dates import find_dates
from mmtune.privacy.cards import find_cards
from mmtune.privacy.code_runs import CodeRun, code_runs
from mmtune.privacy.contexts import Context, OpenContexts, find_contexts
from mmtune.privacy.email_addresses import find_spoken_emails, find_written_emails
from mmtune.privacy.ibans import find_ibans, find_written_ibans
from mmtune.privacy.name_model import NameModel
from mmtune.privacy.names import ListedNames
from mmtune.privacy.phone_numbers import (
    FEWEST_ANNOUNCED,
    FEWEST_AREA_CODE,
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
FEWEST_CHECKED = 8  # digits after "card" or "IBAN" that count as its number, wrong ones too


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

        Raises:
            ConfigError: private words aren't found in the language.
        """
        if language not in (None, *LANGUAGES):
            raise ConfigError(
                f"private words are found in {', '.join(LANGUAGES)}, and not in {language!r}",
                "redact this text by other means",
            )
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
            for start, end in pairwise(starts)
        ]

    def _once(self, text: str, languages: Iterable[str]) -> list[PrivateSpan]:
        found = [
            PrivateSpan(start, end, kind)
            for language in languages
            for kind, start, end in self._in_language(Reading.of(text, language))
        ]
        if self._model is not None:
            found += [PrivateSpan(*place, "name") for place in self._model.find(text)]
        replaced = [match.span() for match in REPLACED.finditer(text)]
        kept: list[PrivateSpan] = []
        for span in found:
            overlaps = any(start < span.end and span.start < end for start, end in replaced)
            if span.kind in self._kinds and not overlaps:
                kept += _lines_of(text, span)
        return merge_spans(kept)

    def _in_language(self, reading: Reading) -> Iterator[tuple[str, int, int]]:
        text = reading.text
        for start, end in find_written_ibans(text):
            yield "iban", start, end
        for start, end in [*find_written_emails(text), *find_spoken_emails(reading)]:
            yield "email", start, end
        for start, end in self._names.find(reading):
            yield "name", start, end
        for start, end in find_grouped_numbers(text):
            yield "account", start, end
        yield from self._numbers(reading)

    def _numbers(self, reading: Reading) -> Iterator[tuple[str, int, int]]:
        """Cards, IBANs, phones, dates of birth and account numbers, in the order of the text."""
        text = reading.text
        announcing = find_contexts(text, reading.language, self._account_words)
        contexts = OpenContexts(reading, announcing)
        dates = list(find_dates(reading))
        written = [(d.start, d.end) for d in dates if d.is_clear and not d.is_year]
        named = [(context.start, context.end) for context in announcing]  # "MRN 0048"
        runs = list(code_runs(text, _without(reading.atoms, [*written, *named]), reading.words))
        bounds = {(run.start, run.end) for run in runs}
        dates = [d for d in dates if d.is_clear or d.is_year or (d.start, d.end) in bounds]
        births: list[tuple[int, int]] = []
        for date in dates:
            context = contexts.before(date.start, "birth", once=True)
            if context is None:
                context = contexts.after(date.end, "birth")
            elif "\n" in text[context.end : date.start] and not date.is_whole:
                # A question's answer begins the turn: "1952", "In March".
                context = context if _begins_turn(text, date.start) else None
            announced = context is not None and context.meaning == "birth"
            if announced or (date.is_old and date.is_clear):
                if announced and date.is_whole:
                    contexts.answer(context)
                births.append((date.start, date.end))
                yield "birth", date.start, date.end
        for run in runs:
            inside = any(a <= run.start and run.end <= b for a, b in births)
            if not inside:
                yield from self._run(reading, run, contexts)

    def _run(
        self, reading: Reading, run: CodeRun, contexts: OpenContexts
    ) -> Iterator[tuple[str, int, int]]:
        """What a run of digits and letters is: by its check digits, and by the words around it."""
        context = contexts.before(run.start, "card", "iban", "account")
        is_other = context is not None and context.meaning == "other"
        lines = run.lines()
        if is_other and len(lines) > 1:  # an order's number, and after it an answer to a question
            for line in lines:
                yield from self._run(reading, line, contexts)
            return
        checked = list(_checked(run, is_other, has_plus(reading, run.atoms[0])))
        if checked:
            if context is not None and not is_other:
                checked.append((checked[0][0], run))  # with what goes on after it
                contexts.answer(context)
            for kind, part in checked:
                yield from ((kind, *place) for place in part.places())
            return
        rest = without_amounts(run, reading)
        if rest is not None and not is_year(rest, reading):
            yield from self._announced(reading, rest, contexts)

    def _announced(
        self, reading: Reading, run: CodeRun, contexts: OpenContexts
    ) -> Iterator[tuple[str, int, int]]:
        """Numbers that the words around them tell, and phone numbers."""
        context = contexts.before(run.start, "card", "iban", "phone", "account")
        if context is None:
            context = contexts.after(run.end, "card", "iban", "phone", "account")
        meaning = "phone" if context is None else context.meaning
        if meaning in ("phone", "other", "birth"):
            found = list(self._phones(reading, run, context))
        elif meaning in ("card", "iban") and len(run.digits) >= FEWEST_CHECKED:
            found = [(meaning, *place) for place in run.places()]
        else:
            assert context is not None
            announced = is_account(run, reading.text[context.start : context.end])
            found = [("account", *place) for place in run.places()] if announced else []
        yield from found
        if found and context is not None:
            contexts.answer(context)

    def _phones(
        self, reading: Reading, run: CodeRun, context: Context | None
    ) -> Iterator[tuple[str, int, int]]:
        plus = has_plus(reading, run.atoms[0])
        announced = context is not None and context.meaning == "phone"
        if context is not None and context.meaning == "other" and not plus:
            return
        fewest = FEWEST_ANNOUNCED
        if context is not None and is_area_code(reading.text[context.start : context.end]):
            fewest = FEWEST_AREA_CODE
        if announced and fewest <= len(run.digits) <= MOST_ANNOUNCED:
            parts = [run]  # as it was heard, which may be wrong
        else:
            regions = self._regions or REGIONS[reading.language]
            parts = list(find_phones(run, regions, international=plus, announced=announced))
        for part in parts:
            places = part.places()
            places[0] = (number_start(reading, part.atoms[0]), places[0][1])
            end = extension_end(reading, part.atoms[-1])
            places[-1] = (places[-1][0], max(end, places[-1][1]))
            yield from (("phone", *place) for place in places)


def _checked(run: CodeRun, is_other: bool, has_plus: bool) -> Iterator[tuple[str, CodeRun]]:
    """Numbers that their check digits tell; after a "+" stands a phone number."""
    for part in find_ibans(run):
        yield "iban", part
    for part in () if has_plus else find_cards(run, is_other=is_other):
        yield "card", part


def _without(atoms: Sequence[Atom], places: Sequence[tuple[int, int]]) -> list[Atom]:
    """The atoms, with those at the places as words, which are no part of a number."""
    places = sorted(places)
    furthest = list(accumulate((end for _, end in places), max, initial=0))
    return [
        replace(atom, form="word", value="")
        if atom.end <= furthest[bisect_right(places, atom.start, key=itemgetter(0))]
        else atom
        for atom in atoms
    ]


def _begins_turn(text: str, place: int) -> bool:
    """Whether at most two words stand before a place in its line."""
    return len(text[text.rfind("\n", 0, place) + 1 : place].split()) <= 2


def _lines_of(text: str, span: PrivateSpan) -> Iterator[PrivateSpan]:
    """A span's parts in each line that aren't empty."""
    for match in _LINE.finditer(text, span.start, span.end):
        yield PrivateSpan(*match.span(), span.kind)
