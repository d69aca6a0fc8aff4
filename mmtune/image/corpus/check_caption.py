"""Checks of captions: words that name a look, and words that the text encoder never reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmtune.data.rows import Finding, Row
from mmtune.image.corpus.limits import TextRoom
from mmtune.image.corpus.prompt import caption_of

# An adapter learns for these words what it should learn for every prompt.
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
    rows: Sequence[Row], room: TextRoom | None = None, trigger: str = ""
) -> list[Finding]:
    """Findings of each caption.

    Args:
        rows: all rows.
        room: what the base's text encoders read; None: not compared.
        trigger: the phrase that training puts before them.
    """
    return [
        finding
        for row in rows
        for finding in (*_style(row), *(() if room is None else _length(row, room, trigger)))
    ]


def _style(row: Row) -> Iterator[Finding]:
    words = list(dict.fromkeys(word.lower() for word in _STYLE.findall(row.reference)))
    if words:
        yield Finding(
            "style-words",
            row.id,
            f"its caption names a look ({', '.join(words)}): {row.reference[:60]!r}",
            "say what is shown and not how it is made: the adapter ties the look to such words, "
            "and prompts without them get less of it",
            "warning",
        )


def _length(row: Row, room: TextRoom, trigger: str) -> Iterator[Finding]:
    tokens, cut = room.cut(caption_of(row, trigger))
    if cut:
        shown = cut if len(cut) <= 60 else cut[:59] + "…"
        yield Finding(
            "long-caption",
            row.id,
            f"its caption has {tokens} tokens and the text encoder reads {room.tokens}: "
            f"{shown!r} is cut off",
            "shorten it, with what matters most in front",
            "warning",
        )
