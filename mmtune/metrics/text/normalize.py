"""Normalize transcripts before they are scored, in the same way for every engine.

Source: Whisper's normalizers (Radford et al. 2022, appendix C) as whisper-normalizer packages
them, with the English spelling map that converted tokenizers lack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

# Languages written without spaces between words. A word error rate has no meaning for them, so
# each written character (with its marks) counts as one word, as in Whisper's paper.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})


@cache
def normalizer(language: str) -> Callable[[str], str]:
    """Return the normalizer of a language.

    Args:
        language: Whisper's code. "en" gets EnglishTextNormalizer. All others get
            BasicTextNormalizer, which keeps combining marks: without them Brahmic scripts lose
            their vowels (openai/whisper#2849).
    """
    if language == "en":
        from whisper_normalizer.english import EnglishTextNormalizer

        return EnglishTextNormalizer()  # type: ignore[no-any-return]
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(  # type: ignore[no-any-return]
        preserve_marks=True, split_letters=language in UNSPACED
    )


@lru_cache(maxsize=65_536)
def normalize(text: str, language: str | None = None) -> str:
    """Normalize a text for scoring: lower case, no punctuation, one English spelling.

    Args:
        text: a transcript or reference.
        language: Whisper's code; None means English, the language of English-only bases.
    """
    return normalizer(language or "en")(text).strip()
