"""Words and phrases that captions and prompts must not, or must, have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mmtune.errors import ConfigError, shortened

# Scripts in which words stand side by side without spaces, as Unicode's names of letters begin.
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def find_words(text: str, words: Iterable[str]) -> list[str]:
    """The words and phrases that a text has, whole, in any case of letters.

    The parts of a phrase may be joined by spaces, hyphens or underscores: "low cost" is in
    "low-cost". Forms of a word are words of their own: "cheap" isn't in "cheaper".

    Scripts without spaces have no whole words; there a word is found inside others.

    Args:
        text: a caption or prompt.
        words: what to look for.
    """
    plain = _plain(text)
    return [word for word in words if _pattern(word).search(plain)]


def refuse_words(prompts: Sequence[str], words: Sequence[str], guide: str) -> None:
    """Refuse prompts that a brand's guide forbids.

    Args:
        prompts: what would be drawn.
        words: the guide's forbidden words.
        guide: where they are written, for the message.

    Raises:
        ConfigError: names the first such prompt and its words.
    """
    for prompt in prompts:
        if found := find_words(prompt, words):
            listed = ", ".join(repr(word) for word in found)
            raise ConfigError(
                f"the prompt {shortened(repr(prompt))} has {listed}, which {guide} forbids "
                "(forbidden_words)",
                "write the prompt without it, or name a guide that permits it: --brand FILE",
            )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=10_000)
def _pattern(word: str) -> re.Pattern[str]:
    parts = [part for part in re.split(r"[\s_-]+", _plain(word)) if part]
    before = r"(?<![^\W_])" if _has_spaces(parts[0][0]) else ""
    after = r"(?![^\W_])" if _has_spaces(parts[-1][-1]) else ""
    return re.compile(before + r"[\s_-]+".join(map(re.escape, parts)) + after)


def _has_spaces(letter: str) -> bool:
    """Whether a letter's script puts spaces between words."""
    return not unicodedata.name(letter, "").startswith(WITHOUT_SPACES)
