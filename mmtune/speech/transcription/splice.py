"""Put terms that a second pass heard into the first pass's transcript, and change nothing else.

The second pass is prompted with terms. So it may write terms that nobody said, and change the words
around them. A term is taken from it only where it stands in place of words of the first pass that
sound or look like the term, and that the first pass wasn't sure of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmtune.metrics.text.term_finder import (
    FoundTerm,
    TermFinder,
    TextWord,
    aligned,
    everyday_words,
    term_key,
    text_words,
)
from mmtune.speech.transcription.retrieve import MIN_SIMILARITY, WORDS, TermIndex
from mmtune.speech.transcription.transcript import PlacedTerm

SPLICE_VERSION = 1  # raised when the same passes give another text
SURE = 0.9  # words that the first pass wrote with this probability, or more, stay
SENTENCE_ENDS = ".?!\u2026"

Confidences = Sequence[Sequence[str | float]]  # [text, probability] of each word; joined, the text


def splice(
    first: str,
    second: str,
    index: TermIndex,
    retrieved: Sequence[str],
    language: str | None = None,
    confidences: Confidences = (),
) -> tuple[str, tuple[PlacedTerm, ...]]:
    """Return the first pass's text with the terms that the second pass has in their places.

    Args:
        first: text of the first pass.
        second: text of the pass that was prompted with the terms.
        index: the terms, and how they sound.
        retrieved: the terms of the prompt.
        language: Whisper's code; None is English.
        confidences: words of the first text with their probabilities; without them the first pass
            is sure of none.

    Returns:
        The text, and the terms that were put into it, in their order.
    """
    finder = TermFinder(retrieved, language)
    spelled = {term_key(term, language): term for term in reversed(retrieved)}
    own, new = text_words(first, language), text_words(second, language)
    there = finder.find(first)
    taken = {at for each in there for at in range(each.first, each.last)}
    twins = _twins(own, new)
    sure = _sure(first, own, confidences)
    pieces: list[str] = []
    placed: list[PlacedTerm] = []
    done = free = 0  # the first character, and the first word, that isn't written yet
    for found in finder.find(second):
        term = spelled[found.term]
        same = next((each for each in there if _is_at(each, found, twins)), None)
        if same is not None:  # only its writing may differ: "nstemi"
            if second[found.start : found.end] != term or term == term.lower():
                continue
            start, end, last, score = same.start, same.end, same.last, 1.0
            if same.first < free or first[start:end] == term:
                continue
        else:
            spans = [
                (index.likeness(first[own[a].start : own[b - 1].end], term), b - a, a, b)
                for a, b in _spans(found, twins, free, len(own))
                if taken.isdisjoint(range(a, b))
                and not all(sure[a:b])
                and not _is_everyday(own[a:b], term, language)
            ]
            score, _, place, last = max(spans, default=(0.0, 0, 0, 0))
            if score < MIN_SIMILARITY:
                continue
            start, end = own[place].start, own[last - 1].end
            if start < done or start == end:
                continue
        written = _in_sentence(term, first, start)
        pieces += [first[done:start], written]
        at = sum(map(len, pieces))
        source = index.source(term)
        placed.append(
            PlacedTerm(
                term=term,
                list=source.list,
                line=source.line,
                original=first[start:end],
                score=round(score, 4),
                start=at - len(written),
                end=at,
            )
        )
        done, free = end, last
    return "".join([*pieces, first[done:]]), tuple(placed)


def spliced_words(
    confidences: Confidences, text: str, placed: Sequence[PlacedTerm], probability: float
) -> list[list[str | float]]:
    """Return the words of the spliced text, with their probabilities.

    Args:
        confidences: the words of the first text with their probabilities.
        text: the spliced text.
        placed: the terms in it.
        probability: of words that hold a term or a part of one.
    """
    # A character of the first text keeps its word; those of a term have none.
    owner: list[int | None] = []
    before = [at for at, (word, _) in enumerate(confidences) for _ in str(word)]
    lead = len(before) - len("".join(str(word) for word, _ in confidences).lstrip())
    at = lead
    done = 0
    for term in placed:
        kept = term.start - done
        owner += before[at : at + kept]
        owner += [None] * (term.end - term.start)
        at += kept + len(term.original)
        done = term.end
    owner += before[at:]
    words: list[list[str | float]] = []
    last: int | None = -1
    shown = "".join(str(word) for word, _ in confidences)[:lead] + text
    for c, own in zip(shown, [*before[:lead], *owner], strict=False):
        if own != last or not words:
            score = probability if own is None else float(confidences[own][1])
            words.append(["", score])
        words[-1][0] = f"{words[-1][0]}{c}"
        last = own
    return words


def _twins(own: Sequence[TextWord], new: Sequence[TextWord]) -> Mapping[int, int]:
    """The word of the first text for each word of the second text that stays as it is."""
    found: dict[int, int] = {}
    for equal, (a, _), (c, d) in aligned([w.text for w in own], [w.text for w in new]):
        if equal:
            found |= {at: a + at - c for at in range(c, d)}
    return found


def _is_at(own: FoundTerm, new: FoundTerm, twins: Mapping[int, int]) -> bool:
    """Whether a term of the first text stands at the place of one of the second text."""
    places = [twins.get(at) for at in range(new.first, new.last)]
    return own.term == new.term and places == list(range(own.first, own.last))


def _spans(
    new: FoundTerm, twins: Mapping[int, int], free: int, count: int
) -> list[tuple[int, int]]:
    """Spans of the first text's words that may stand for a term of the second text.

    They lie between the nearest words around the term that both texts have, and hold those words
    of the term that both have.
    """
    before = max((at for at in twins if at < new.first), default=None)
    behind = min((at for at in twins if at >= new.last), default=None)
    low = max(free, 0 if before is None else twins[before] + 1)
    high = count if behind is None else twins[behind]
    kept = [twins[at] for at in range(new.first, new.last) if at in twins]
    longest = max(WORDS, new.last - new.first + 1)
    return [
        (a, b)
        for a in range(low, min([high, *(at + 1 for at in kept)]))
        for b in range(a + 1, min(high, a + longest) + 1)
        if all(a <= at < b for at in kept)
    ]


def _is_everyday(words: Sequence[TextWord], term: str, language: str | None) -> bool:
    """Whether the word is the term in another case, and an everyday word: "who" isn't WHO."""
    return (
        len(words) == 1
        and words[0].text.lower() == term.lower()
        and words[0].text in everyday_words(language or "en")
    )


def _sure(text: str, words: Sequence[TextWord], confidences: Confidences) -> list[bool]:
    """Whether the first pass was sure of each word of its text."""
    written = "".join(str(word) for word, _ in confidences)
    if written.strip() != text:
        return [False] * len(words)
    # Leading spaces aren't part of the text.
    chances = [float(chance) for word, chance in confidences for _ in str(word)]
    chances = chances[len(written) - len(written.lstrip()) :]
    return [min(chances[word.start : word.end], default=0.0) >= SURE for word in words]


def _in_sentence(term: str, text: str, start: int) -> str:
    """Write a term with a capital where a sentence begins with one."""
    before = text[:start].rstrip()
    begins = (not before or before.endswith(tuple(SENTENCE_ENDS))) and text[start].isupper()
    return term[0].upper() + term[1:] if begins and term == term.lower() else term
