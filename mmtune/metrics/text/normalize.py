"""Normalize transcripts before they are scored, in the same way for every engine.

Source: Whisper's normalizers (Radford et al. 2022, appendix C) as whisper-normalizer packages
them, with the English spelling map that converted tokenizers lack.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache

from mmtune.metrics.text.language_code import language_code

# Languages written without spaces between words. A word error rate has no meaning for them, so
# each written character (with its marks) counts as one word, as in Whisper's paper.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})
DOTTED_I = frozenset({"tr", "az"})  # languages in which the small letter of I has no dot
# Letters between which U+200C and U+200D change how a word is written: Arabic to Malayalam,
# Tibetan, Myanmar, Khmer and Mongolian.
JOINED = "\u0600-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefe"
FORMAT = "".join(
    re.escape(c)
    for c in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(c) == "Cf" and c not in "\u200c\u200d"
)
INVISIBLE = re.compile(
    f"[{FORMAT}\u0640]|(?<![{JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{JOINED}])"
)
MANY = 1_000  # opening brackets of a text, above which those that nothing closes are removed first
BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]")  # what Whisper's normalizers remove first
SPACES = re.compile(r"\s{100,}")
APOSTROPHES = re.compile("[\u02bc\u02b9\u2018\u2019\u201b\u2032\u00b4`\uff07]")


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
        language: a code, name or tag; None means English, the language of English-only bases.
    """
    code = (language_code(language) or language.casefold()) if language else "en"
    return normalizer(code)(_written(text, code)).strip()


def _written(text: str, language: str) -> str:
    """Replace what a reader can't see or tell apart, before Whisper's normalizer.

    Characters of format (Unicode's category Cf: zero-width space, soft hyphen, byte order mark,
    direction marks) and the Arabic tatweel go. A joiner stays between letters of scripts that
    spell with it. Apostrophes become one. Turkish and Azeri I has two letters of its own.
    """
    text = APOSTROPHES.sub("'", INVISIBLE.sub("", text))
    if language in DOTTED_I:
        text = text.replace("I", "ı").replace("İ", "i")
    return _quick(text)


def _quick(text: str) -> str:
    """Remove what takes Whisper's patterns a time that grows with the square of its length.

    They search the rest of the text for the end of each opening bracket, and for an apostrophe
    behind each space. An opening bracket that nothing closes becomes a space there too.
    """
    if sum(map(text.count, "<[(")) > MANY:
        text = BRACKETS.sub("", _without_unclosed(text, "<[", ">]"))
        text = _without_unclosed(text, "(", ")")
    return SPACES.sub(" ", text)


def _without_unclosed(text: str, opening: str, closing: str) -> str:
    end = max(map(text.rfind, closing)) + 1
    return text[:end] + text[end:].translate(dict.fromkeys(map(ord, opening), " "))
