"""Marks that file managers and browsers add to the name of a copy."""

from __future__ import annotations

import re

_WORD = r"(?:kopie|copy|copie|copia|cópia|kopia|kopi)"
# "apple - Kopie (2)", "apple copy 2" and "apple (copy)", of Windows, macOS and GNOME; "apple (1)"
# of browsers; "Copy of apple", "Kopie von apple", "Copia de apple".
_AFTER = re.compile(
    rf"(?:[\s_]*[-–]\s*{_WORD}|[\s_]+{_WORD})(?:[\s_]*\(?\d+\)?)?$"
    rf"|\s*\((?:[^()]*\s)?{_WORD}(?:\s*\d+)?\)$|\s*\(\d+\)$",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    rf"^{_WORD}(?:[\s_]*\(\d+\))?[\s_]+(?:of|von|de|di|af|av|van)[\s_]+", re.IGNORECASE
)


def without_copy_mark(stem: str) -> str:
    """A file's name without suffix, and without the marks of a copy.

    Returns:
        "apple" for "apple - Kopie (2)"; the name itself if it has no mark, or nothing else.
    """
    name = stem
    while (shorter := _AFTER.sub("", _BEFORE.sub("", name))) != name and shorter.strip():
        name = shorter
    return name
