"""E-mail addresses, written and spoken: "j dot smith at example dot com"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmtune.privacy.atoms import Reading
from mmtune.privacy.spoken_words import word_set

_WRITTEN_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}")
_WRITTEN = re.compile(rf"[^\W_][\w.+!#$%&'*/=?^`{{|}}~-]*@{_WRITTEN_DOMAIN.pattern}")
# Last parts of a domain that are common in speech; countries' codes of two letters are others.
_LAST_PARTS = word_set(
    "com net org edu gov info biz name online shop app dev email mail cloud example test local"
)
_NOT_LAST = word_set("am as at be do he if in is it me my no of on or so to us we")
MOST_WORDS = 3  # words without a sign between them that are taken for one address


def find_written_emails(text: str) -> Iterator[tuple[int, int]]:
    """Find the places of e-mail addresses as they are written."""
    for match in _WRITTEN.finditer(text):
        yield match.span()


def find_spoken_emails(reading: Reading) -> Iterator[tuple[int, int]]:
    """Find the places of e-mail addresses that are said in words.

    An address is a word for @ with a domain after it and something before it that may be a name.
    """
    least = 0
    for place, atom in enumerate(reading.atoms):
        is_at = atom.word in reading.words.at and atom.form == "word"
        if not is_at and atom.value != "@":
            continue
        end = _domain_end(reading, place + 1)
        if end is None:
            continue
        first = _local_start(reading, place, least)
        if first is not None:
            yield reading.atoms[first].start, end
            least = place


def _domain_end(reading: Reading, first: int) -> int | None:
    """Where the domain ends that begins at an atom; None if none does."""
    text, atoms, words = reading.text, reading.atoms, reading.words
    while first < len(atoms) and atoms[first].word in ("sign", "the", "zeichen"):
        first += 1
    if first >= len(atoms):
        return None
    if written := _WRITTEN_DOMAIN.match(text, atoms[first].start):
        return written.end()
    end, place, label, dots = None, first, 0, 0
    while place < len(atoms) and place - first < 40:
        atom = atoms[place]
        sign = words.signs.get(atom.word, "") if atom.form == "word" else atom.value
        gap = text[atoms[place - 1].end : atom.start]
        if "\n" in gap or (atoms[place - 1].value == "." and gap):
            break
        if sign == "." and label:
            dots, label = dots + 1, 0
        elif sign == "-" and label:
            pass
        elif atom.form in ("word", "letter", "letters", "digits"):
            # Without a dot a second word doesn't belong to the domain, but spelled letters do.
            spelled = atom.form == "letter" and atoms[place - 1].form == "letter"
            hyphen = words.signs.get(atoms[place - 1].word) == "-" or atoms[place - 1].value == "-"
            if label and gap and not spelled and not hyphen:
                break
            label += 1
            if dots and _is_last(reading, place):
                end = atom.end
        else:
            break
        place += 1
    return end


def _is_last(reading: Reading, place: int) -> bool:
    """Whether the domain may end with this atom: "com", "uk", or the letters "d e"."""
    atom = reading.atoms[place]
    if atom.form == "letter":
        return reading.atoms[place - 1].form == "letter"
    if atom.word in _LAST_PARTS:
        return True
    follows_dot = len(atom.word) == 2 and atom.word.isalpha()
    return follows_dot and (
        atom.word not in _NOT_LAST or reading.text[atom.end : atom.end + 1] != " "
    )


def _local_start(reading: Reading, at: int, least: int) -> int | None:
    """The atom with which the part before the @ begins; None if nothing there may be one."""
    text, atoms, words = reading.text, reading.atoms, reading.words
    first: int | None = None
    place, loose = at - 1, 0
    joined = True  # whether what comes next belongs to the address without doubt
    while place >= least:
        atom = atoms[place]
        sign = words.signs.get(atom.word, "") if atom.form == "word" else ""
        is_written_dot = atom.value in (".", "_", "-", "+") and (
            text[atom.end : atom.end + 1].isalnum() and text[atom.start - 1 : atom.start].isalnum()
        )
        if "\n" in text[atom.end : atoms[place + 1].start]:
            break
        if sign or is_written_dot:
            joined = True
        elif atom.word in ("bas", "bajo", "all", "sign"):  # "tiret bas", "guion bajo"
            pass
        elif atom.value == "," and first is not None and atoms[first].is_code:
            pass  # letters are often spelled with commas between them
        elif atom.form == "mark" or atom.form == "replaced":
            break
        elif atom.is_code:
            first, joined = place, False
        else:
            if not joined and loose >= MOST_WORDS:
                break
            if atom.word in words.no_local_part and not (joined and first is not None):
                break
            first, joined, loose = place, False, loose + 1
        place -= 1
    return first
