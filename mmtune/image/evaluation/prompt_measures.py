"""Measures of prompt following: CLIP score or prompt match, on held-out and other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmtune.data.rows import Row
from mmtune.image.evaluation.compared_images import (
    HELD_OUT_CAPTIONS,
    ComparedImages,
    paired_measure,
)
from mmtune.image.image_row import ImageRow
from mmtune.image.looks.embedding import Embed, Scorer
from mmtune.metrics.bootstrap import UNDEFINED
from mmtune.metrics.image.clip_score import check_prompts, clip_scores, mean_score, recall, shuffled
from mmtune.metrics.image.content_score import (
    CONTENT,
    MIN_HELD_OUT,
    caption_gaps,
    content,
    split_test,
)
from mmtune.metrics.measure import Measure
from mmtune.system.hashing import hash_text


def prompt_measure(
    compared: ComparedImages,
    scorer: Scorer,
    embed_images: Embed,
    test_slice: str = HELD_OUT_CAPTIONS,
    judged_on: str = "real",
) -> Measure:
    """Score how well each image matches its caption, and check that the adapter keeps the score.

    The scorer is first judged on `compared.real`: it must score these images higher with their own
    captions than with others', and find enough captions if it has a `min_recall`.

    Args:
        embed_images: the scorer's image encoder; it may be memoized.
        test_slice: name of the slice in the report.
        judged_on: what `compared.real` holds: "real" images, or the "base"'s.

    Returns:
        The measure. Its figures are NaN where a scorer with a `min_recall` isn't valid here.
    """
    captions = [row.reference for row in compared.rows]
    texts = scorer.texts(captions)
    measure = paired_measure(
        scorer.metric,
        compared,
        clip_scores(embed_images(compared.base), texts),
        clip_scores(embed_images(compared.adapter), texts),
        mean_score,
        higher_is_better=True,
        note="all captions are equal, so this scorer can't be checked",
        references={},
        test_slice=test_slice,
    )
    captions_of_real, own = captions[:: compared.seeds], texts[:: compared.seeds]
    min_recall = scorer.min_recall
    if len(set(captions_of_real)) < 2:
        return measure if min_recall is None else _without_figures(measure)
    real = embed_images(compared.real)
    check = check_prompts(
        clip_scores(real, own),
        clip_scores(real, own[shuffled(captions_of_real)]),
        measure.difference,
        compared.prompts_of_real,
        None if min_recall is None else recall(real, own, captions_of_real),
        min_recall or 0.0,
        on=f"{judged_on} images",
    )
    measure = replace(measure, note=str(check))
    if min_recall is not None and not check.valid:
        return _without_figures(measure)
    references = {
        judged_on: check.matched,
        f"{judged_on}, others' captions": check.shuffled,
        "own less others' captions": check.gap,
    }
    return replace(measure, references=references)


def content_measure(compared: ComparedImages, scorer: Scorer, embed_images: Embed) -> Measure:
    """Measure how clearly images show their captions, compared with the brand's own images.

    The scorer is first tested on halves of the brand's held-out images; see `split_test`.

    Args:
        embed_images: the scorer's image encoder; it may be memoized.

    Returns:
        The measure. Its figures are NaN where the scorer fails its test.
    """
    captions = [row.reference for row in compared.rows]
    of_real = captions[:: compared.seeds]
    if len(of_real) < MIN_HELD_OUT or len(set(of_real)) < MIN_HELD_OUT:
        return unknown_content(
            compared,
            f"{len(set(of_real))} different captions are too few to test the scorer; "
            f"{MIN_HELD_OUT} are needed",
        )
    texts = scorer.texts(captions)
    real, texts_of_real = embed_images(compared.real), texts[:: compared.seeds]
    test = split_test(real, texts_of_real, of_real)
    if not test.valid:
        return unknown_content(
            compared,
            f"{scorer.metric} can't judge these images: {test}; hold out more images, or name "
            "another scorer: --clip_model",
        )
    one = caption_gaps(real, texts_of_real, of_real)
    base, adapter = (
        caption_gaps(embed_images(images), texts, captions)
        for images in (compared.base, compared.adapter)
    )
    first, second, difference = (
        content(gaps, compared.prompts, one, compared.prompts_of_real)
        for gaps in (base, adapter, adapter - base)
    )
    unknown = unknown_content(compared, f"by {scorer.metric}; {test}")
    return replace(unknown, base=first, adapter=second, difference=difference)


def unknown_content(compared: ComparedImages, reason: str) -> Measure:
    """Report that content can't be measured, and why: it is never left out in silence."""
    return Measure(
        metric=CONTENT.name,
        slice=HELD_OUT_CAPTIONS,
        items=len(compared.rows),
        base=UNDEFINED,
        adapter=UNDEFINED,
        difference=UNDEFINED,
        higher_is_better=True,
        note=reason,
    )


def outside_rows(prompts: Sequence[str], subjects: Sequence[str]) -> list[Row]:
    """Make rows for `prompts`, without repeats and without the brand's own captions.

    The rows have no image file: they serve for generating only.

    Args:
        prompts: `task.outside_prompts`.
        subjects: captions of the dataset, compared without regard to case and spaces.
    """

    def normalized(words: str) -> str:
        return " ".join(words.casefold().split())

    known = {normalized(words) for words in subjects}
    new = [words for words in dict.fromkeys(prompts) if normalized(words) not in known]
    return [ImageRow(id=f"outside: {w}", image="-", caption=w, content=hash_text(w)) for w in new]


def _without_figures(measure: Measure) -> Measure:
    return replace(measure, base=UNDEFINED, adapter=UNDEFINED, difference=UNDEFINED)
