"""Divide terms into seen and unseen ones, which are slices of a comparison."""

from __future__ import annotations

from collections.abc import Iterable

from mmtune.data.dataset import Dataset
from mmtune.metrics.text.term_finder import TermFinder, term_key
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_rows


def divide_terms(options: SpeechOptions, dataset: Dataset) -> tuple[set[str], set[str]]:
    """Return the terms that training transcripts contain, and the other terms.

    Terms come from the term list and from the rows. The transcripts decide, not the list's section.
    """
    named = {term for row in speech_rows(dataset.rows) for term in row.terms}
    if options.terms is not None:
        path = find_terms(options.terms)
        named |= {term.text for term in read_terms(path, options.language)}
    by_key = {term_key(term, options.language): term for term in sorted(named)}
    finder = TermFinder(named, options.language, read_variants(options).table)
    train = speech_rows(dataset.split("train"))
    trained = {by_key[key] for row in train for key in spoken_terms(finder, row, options)}
    return trained, set(by_key.values()) - trained


def read_variants(options: SpeechOptions) -> Variants:
    """Read the other accepted spellings of the term list's terms."""
    if options.terms is None:
        return STRICT
    terms = read_terms(find_terms(options.terms), options.language)
    return Variants({term.text: term.variants for term in terms}, options.language)


def spoken_terms(finder: TermFinder, row: SpeechRow, options: SpeechOptions) -> Iterable[str]:
    """The terms of a row's own words, in the row's language."""
    return finder.count(row.reference, row.language or options.language)
