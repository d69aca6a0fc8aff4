"""Prompts: captions with trigger phrases. No other code joins the two."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmtune.data.rows import Row
from mmtune.image.image_row import ImageRow

MIX = "mix"  # key in `Row.group` that names why a row was added to the data
PRIOR = "prior"  # value of `MIX`: an image of the base, whose caption gets no trigger


def with_trigger(words: str, trigger: str) -> str:
    """Put a trigger phrase before a caption, as in "acme icon, a red apple".

    Args:
        words: the caption; it stays as it is if it holds the trigger as whole words, in any case.
        trigger: the phrase; empty: there is none.
    """
    words, trigger = words.strip(), trigger.strip()
    if not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", words, re.IGNORECASE):
        return words
    return f"{trigger}, {words}" if words else trigger


def with_triggers(words: str, triggers: Iterable[str]) -> str:
    """Put the triggers of several adapters before a caption, in their order and each once."""
    for trigger in reversed(list(dict.fromkeys(triggers))):
        words = with_trigger(words, trigger)
    return words


def wordings(row: Row) -> tuple[str, ...]:
    """All captions of a row; training draws one of them in each epoch."""
    return row.wordings if isinstance(row, ImageRow) else (row.reference,)


def prompt_of(row: Row, trigger: str, words: str | None = None) -> str:
    """Make a row's prompt: its caption with the trigger, except for prior images.

    `row.reference` remains the caption of the data.

    Args:
        row: the row.
        trigger: the phrase; empty: there is none.
        words: one of the row's `wordings`; None: its caption.
    """
    words = row.reference if words is None else words
    return words if row.group.get(MIX) == PRIOR else with_trigger(words, trigger)
