"""What a model is asked to draw: the one place where captions and trigger phrases are joined."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmtune.data.rows import Row

MIX = "mix"  # the key in a row's group that says what it was made for
PRIOR = "prior"  # an image that the base drew, which the trigger must not stand before


def prompted(words: str, trigger: str) -> str:
    """`words` with the trigger phrase in front, unless they hold it or there is none."""
    words, trigger = words.strip(), trigger.strip()
    if not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", words, re.IGNORECASE):
        return words
    return f"{trigger}, {words}" if words else trigger


def prompted_by_all(words: str, triggers: Iterable[str]) -> str:
    """`words` with the triggers of several adapters, the first one in front."""
    for trigger in reversed(list(dict.fromkeys(triggers))):
        words = prompted(words, trigger)
    return words


def caption_of(row: Row, trigger: str) -> str:
    """A row's caption as the model reads it; `row.reference` stays what the data says."""
    return row.reference if row.group.get(MIX) == PRIOR else prompted(row.reference, trigger)
