"""Align the words of a transcript with its reference, and normalized words with written ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jiwer

from mmtune.metrics.text.normalize import normalize

AlignedPair = tuple[int | None, int | None, bool]  # index in each text; whether the words are equal


def align_words(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[AlignedPair]:
    """Align two texts with jiwer and yield the pairs in order; None stands for a missing word.

    Args:
        reference: normalized words, without spaces in them.
        hypothesis: normalized words, without spaces in them.
    """
    if not reference or not hypothesis:
        yield from ((i, None, False) for i in range(len(reference)))
        yield from ((None, i, False) for i in range(len(hypothesis)))
        return
    found = jiwer.process_words([" ".join(reference)], [" ".join(hypothesis)])
    for chunk in found.alignments[0]:
        ours = range(chunk.ref_start_idx, chunk.ref_end_idx)
        theirs = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
        if chunk.type == "delete":
            yield from ((i, None, False) for i in ours)
        elif chunk.type == "insert":
            yield from ((None, i, False) for i in theirs)
        else:
            equal = chunk.type == "equal"
            yield from ((i, j, equal) for i, j in zip(ours, theirs, strict=True))


def written_places(
    written: Sequence[str], normalized: Sequence[str], language: str | None
) -> list[int | None]:
    """Find for each word of a normalized text the written word that it comes from.

    Normalization joins and splits words ("twenty one", "won't"). So each written word is normalized
    by itself, and these pieces are aligned with the normalized text.

    Args:
        written: words as the model wrote them.
        normalized: words of their text, normalized as a whole.
        language: language of the normalization.

    Returns:
        The index of the written word for each normalized word; None if there is no such word.
    """
    pieces = [(piece, i) for i, word in enumerate(written)
              for piece in normalize(word, language).split()]  # fmt: skip
    places: list[int | None] = [None] * len(normalized)
    for own, piece, _ in align_words(normalized, [piece for piece, _ in pieces]):
        if own is not None and piece is not None:
            places[own] = pieces[piece][1]
    return places
