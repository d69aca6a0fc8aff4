"""One way to write a transcript before it is scored, the same for every engine.

Source: Whisper's normalizers (Radford et al. 2022, appendix C) as whisper-normalizer packages
them, with the English spelling map that converted tokenizers lack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

# Written without spaces between words: there an error "rate of words" has no meaning, so each
# written character (with its marks) counts as one, as in Whisper's paper.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})


@cache
def normalizer(language: str) -> Callable[[str], str]:
    """The normalizer of a language.

    Args:
        language: Whisper's code. "en" gets EnglishTextNormalizer; others BasicTextNormalizer with
            combining marks kept: without them Brahmic scripts lose their vowels
            (openai/whisper#2849).
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
    """`text` as it is scored: lower case, no punctuation, single spaces; English spelling unified.

    Args:
        text: a transcript.
        language: Whisper's code; None means English, the language of English-only bases.
    """
    return normalizer(language or "en")(text).strip()
