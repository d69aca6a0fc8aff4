"""Marks that file managers and browsers add to the name of a copy."""

from __future__ import annotations

import re
from collections.abc import Callable

_WORD = r"(?:kopie|copy|copie|copia|cópia|kopia|kopi)"
_NUMBER = r"[1-9]\d?"  # a longer one is a year, or belongs to the name
_WHICH = r"(?:another|weitere|autre|otra|altra|outra|\d\S*)\s+"
# "apple - Kopie (2)", "apple copy 2" and "apple (3rd copy)", of Windows, macOS and GNOME; "apple
# (1)" of browsers. No words of a name look so.
_SURE = re.compile(
    rf"[\s_]+[-–][\s_]*{_WORD}(?:[\s_]*(?:{_NUMBER}|\({_NUMBER}\)))?$"
    rf"|[\s_]+{_WORD}[\s_]*(?:{_NUMBER}|\({_NUMBER}\))$"
    rf"|\s*\((?:{_WHICH})?{_WORD}(?:\s*{_NUMBER})?\)$|\s*\({_NUMBER}\)$",
    re.IGNORECASE,
)
# "apple copy", "Copy of apple", "Kopie von apple": so do "hard copy" and "copia di seta".
_PERHAPS = re.compile(
    rf"(?:[\s_]+|[-–]){_WORD}$"
    rf"|^{_WORD}(?:[\s_]*\({_NUMBER}\))?[\s_]+(?:of|von|de|di|af|av|van)[\s_]+",
    re.IGNORECASE,
)


def without_copy_mark(stem: str, is_name: Callable[[str], bool]) -> str:
    """A file's name without suffix, and without the marks of a copy.

    Args:
        stem: the name.
        is_name: whether another file has this name; then "hard copy" is a copy of "hard".

    Returns:
        "apple" for "apple - Kopie (2)"; the name itself if it has no mark, or nothing else.
    """
    name = _without(stem, _SURE)
    original, shorter = name, _without_one(name)
    while shorter != original:
        if is_name(shorter):
            return shorter
        original, shorter = shorter, _without_one(shorter)
    return name


def _without(name: str, mark: re.Pattern[str]) -> str:
    while (shorter := mark.sub("", name)) != name and shorter.strip():
        name = shorter
    return name


def _without_one(name: str) -> str:
    """The name without one mark that may be words of it, and without those that can't."""
    shorter = _PERHAPS.sub("", name, count=1)
    return _without(shorter, _SURE) if shorter.strip() else name
