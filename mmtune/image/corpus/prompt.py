"""Prompts: captions with trigger phrases. No other code joins the two."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmtune.data.rows import Row

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


def prompt_of(row: Row, trigger: str) -> str:
    """Make a row's prompt: its caption with the trigger, except for prior images.

    `row.reference` remains the caption of the data.
    """
    return row.reference if row.group.get(MIX) == PRIOR else with_trigger(row.reference, trigger)
