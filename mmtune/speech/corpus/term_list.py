"""Read term lists: one term per line as it should be spelled, and how it sounds if that differs.

    # comments and empty lines are skipped
    metoprolol
    NSTEMI = en stemmy
    esomeprazole | esomeprazol
    [unseen]
    apixaban

Spellings after `|` also count as right when transcripts are scored. Terms below `[unseen]` are
spoken in the test only: they show what an adapter does for terms without training data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmtune.errors import ConfigError
from mmtune.metrics.text.term_finder import term_key
from mmtune.speech.speech_row import plain_words
from mmtune.system.resources import resource
from mmtune.system.stored import read_text, reason_of

UNSEEN = "[unseen]"
MAX_TERM_LENGTH = 100  # characters: a term is a word or a few


@dataclass(frozen=True)
class Term:
    """One line of a term list: the spelling, the pronunciation and other accepted spellings."""

    text: str  # the spelling that transcripts should have
    spoken: str  # the text that a synthetic voice reads
    seen: bool = True  # whether training may use it
    variants: tuple[str, ...] = ()  # other spellings that count as right


def find_terms(terms: Path) -> Path:
    """Find a list by its path, or one of mmtune's own lists by name ("medical").

    Raises:
        ConfigError: there is no such file and no such list.
    """
    if terms.is_file():
        return terms
    if terms.name == str(terms) and not terms.suffix:
        own = sorted(p for p in resource("assets", "terms").glob("*.txt") if p.stem == str(terms))
        if own:
            return own[0]
    raise ConfigError(
        f"no such term list: {terms}", "write a text file with one term per line: --terms terms.txt"
    )


def read_terms(path: Path, language: str = "en") -> tuple[Term, ...]:
    """Read the terms of a list, in its order.

    Args:
        path: a UTF-8 text file.
        language: language of the terms; two terms that are scored as the same word are an error.

    Raises:
        ConfigError: the file is missing, empty or not text, or a line is no term; names the line.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {reason_of(error)}", "name a text file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    terms: list[Term] = []
    first: dict[str, int] = {}
    seen = True
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if line.lower() != UNSEEN or not seen:
                raise ConfigError(
                    f"{path}, line {number}: unknown or repeated section {line!r}",
                    f"the only section is {UNSEEN}, and it may occur once",
                )
            seen = False
            continue
        left, equals, spoken = (part.strip() for part in line.partition("="))
        spellings = [part.strip() for part in left.split("|")]
        where = f"{path}, line {number}: {line[:MAX_TERM_LENGTH]!r}"
        if not all(_is_term(text, language) for text in spellings) or (equals and not spoken):
            raise ConfigError(
                f"{where} is no term",
                "write one term per line: TERM, TERM | other spelling, or TERM = sounds like; "
                "comments begin with #",
            )
        # A variant may be scored as the term itself ("beta-blocker | beta blocker").
        keys = list(dict.fromkeys(term_key(text, language) for text in spellings))
        for key in keys:
            if key in first:
                raise ConfigError(
                    f"{where} repeats the term of line {first[key]}", "remove one of them"
                )
            first[key] = number
        text, *variants = spellings
        terms.append(Term(text, spoken or text, seen, tuple(variants)))
    if not any(term.seen for term in terms):
        raise ConfigError(f"{path} holds no term to train", "write one term per line")
    return tuple(terms)


def _is_term(text: str, language: str) -> bool:
    if len(text) > MAX_TERM_LENGTH or not text.isprintable():
        return False
    return bool(plain_words(text) and term_key(text, language))
