"""Checks of captions: words that name a style, and words beyond the text encoder's limit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmtune.data.rows import Finding, Row
from mmtune.image.corpus.limits import TextLimit
from mmtune.image.corpus.prompt import prompt_of, wordings

# If captions hold these words, the adapter ties the look to them instead of to every prompt.
STYLE_WORDS = (
    *("style", "styled", "stylized", "stylised", "aesthetic", "artwork", "art"),
    *("painting", "painted", "watercolor", "watercolour", "gouache", "oil on canvas", "acrylic"),
    *("drawing", "drawn", "sketch", "illustration", "illustrated", "lineart", "linework"),
    *("cartoon", "comic", "anime", "manga", "clipart", "doodle", "render", "rendering", "cgi"),
    *("vector graphic", "flat design", "low poly", "isometric", "minimalist", "minimalistic"),
    *("impressionist", "cubist", "surrealist", "photorealistic", "hyperrealistic"),
)
_STYLE = re.compile(
    r"(?<!\w)(?:" + "|".join(sorted(STYLE_WORDS, key=len, reverse=True)) + r")(?!\w)",
    re.IGNORECASE,
)


def check_captions(
    rows: Sequence[Row], limit: TextLimit | None = None, trigger: str = ""
) -> list[Finding]:
    """Find captions that name a style or are too long for the text encoder.

    Args:
        rows: all rows.
        limit: how many tokens the base's text encoders read; None: lengths aren't checked.
        trigger: the phrase that training puts before captions; it counts for the length.

    Returns:
        Findings of the kinds "style-words" and "long-caption".
    """
    return [
        finding
        for row in rows
        for finding in (
            *_style_word_findings(row),
            *(() if limit is None else _length_findings(row, limit, trigger)),
        )
    ]


def _style_word_findings(row: Row) -> Iterator[Finding]:
    for caption in wordings(row):
        words = list(dict.fromkeys(word.lower() for word in _STYLE.findall(caption)))
        if not words:
            continue
        yield Finding(
            "style-words",
            row.id,
            f"the caption names a style ({', '.join(words)}): {caption[:60]!r}",
            "describe what the image shows, not its style: otherwise the adapter ties the look "
            "to these words, and prompts without them get less of it",
            "warning",
        )


def _length_findings(row: Row, limit: TextLimit, trigger: str) -> Iterator[Finding]:
    for caption in wordings(row):
        tokens, cut = limit.cut_off(prompt_of(row, trigger, caption))
        if not cut:
            continue
        shown = cut if len(cut) <= 60 else cut[:59] + "…"
        yield Finding(
            "long-caption",
            row.id,
            f"the caption has {tokens} tokens, but the text encoder reads only {limit.tokens}: "
            f"{shown!r} is cut off",
            "shorten the caption, and put the most important words first",
            "warning",
        )
