"""Names of speakers at the beginning of lines: "Agent: Good morning." names the speaker Agent.

Many sentences begin with a word and a colon ("Remember: call us"), so a name counts only if it is a
role, if the caller knows it, or if the whole text is written in this way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

# Names of roles don't identify a person: each recording has another one.
ROLE = re.compile(
    r"(speaker|spk|voice|person|channel|agent|operator|advis[oe]r|rep|representative|customer|client|"
    r"caller|user|host|guest|interview(er|ee)|doctor|nurse|patient|man|woman|unknown|left|right|"
    r"kund(e|in)|berater(in)?|mitarbeiter(in)?|sprecher(in)?|anrufer(in)?|cliente|agente|"
    r"conseill(er|ère)|locuteur|locutrice|appelant)[\s_#-]*\d*",
    re.IGNORECASE,
)
FROM_LABEL = "the label at the beginning of its text"  # what a guessed speaker was taken from
SIDES = frozenset({"left", "right"})  # names of speakers only if each has a channel
LETTERS, WORDS = 40, 4  # the longest name
MANY = 8  # people in a text of which every line begins with a name
# "Agent: yes", "[Agent]: yes", "- AGENT: yes". A name begins with a letter, and a space follows the
# colon, unless the colon is the wide one of Chinese and Japanese.
LABEL = re.compile(
    r"\s*(?:[-–—]\s*)?[\[(]?(?P<name>[^\W\d_][\w .'’()/#-]*)[\])]?\s*(?::(?=\s|$)|：)\s*"
)

IN_TEXT = re.compile(rf"(?:^|(?<=\s))\s*(?P<name>{ROLE.pattern})\s*:(?=\s)", re.IGNORECASE)


def named_roles(text: str) -> list[str]:
    """Return the roles that a text names as speakers, if it begins with one: each once.

    Example:
        >>> named_roles("Agent: Good morning. Customer: Hello. Agent: Bye.")
        ['Agent', 'Customer']
    """
    if not IN_TEXT.match(text):
        return []
    found: dict[str, str] = {}
    for match in IN_TEXT.finditer(text):
        found.setdefault(match["name"].casefold(), match["name"])
    return list(found.values())


def read_labels(
    lines: Sequence[str], known: Collection[str] = (), *, sides: bool = True
) -> list[tuple[str, str]]:
    """Return the speaker and the words of each line; the speaker is "" if nobody is named.

    A line without a name belongs to the speaker of the line before it. A name in `known` counts. A
    role (`ROLE`) counts if it stands in the first line or twice, or if other roles are named; all
    names count if every line has one, or if the first line has one and two names stand twice or
    more.

    Args:
        lines: in the order in which they were spoken.
        known: names of speakers, case-folded.
        sides: whether the recording may have a channel for each speaker. Otherwise "Left: …" names
            nobody, and names in every line count only if one of them stands twice.

    Example:
        >>> read_labels(["Agent: Good morning.", "Remember: call us."])
        [('Agent', 'Good morning.'), ('Agent', 'Remember: call us.')]
    """
    found = [_label(line) for line in lines]
    filled = [name for name, line in zip(found, lines, strict=True) if line.strip()]
    counts = Counter(name for name in filled if name)
    repeated = [name for name, count in counts.items() if count > 1]
    everywhere = len(filled) > 1 and "" not in filled and 2 * len(counts) <= max(4, len(filled))
    everywhere = everywhere and len(counts) <= MANY and (sides or bool(repeated))
    several = bool(filled) and filled[0] in repeated and len(repeated) > 1
    usable = {name for name in counts if sides or name.casefold() not in SIDES}
    roles = {name for name in usable if ROLE.fullmatch(name)}
    if len(roles) == 1 and not roles & {filled[0], *repeated}:
        roles = set()  # "Patient: 45 years old" within a talk
    accepted = {
        name
        for name in counts
        if name.casefold() in known
        or name in roles
        or (name in usable and (everywhere or (several and name in repeated)))
    }
    result: list[tuple[str, str]] = []
    speaker = ""
    for name, line in zip(found, lines, strict=True):
        if name in accepted:
            speaker = name
            result.append((speaker, LABEL.sub("", line, count=1).strip()))
        else:
            result.append((speaker, line.strip()))
    return result


def _label(line: str) -> str:
    found = LABEL.match(line[: 2 * LETTERS])
    if found is None:
        return ""
    name = " ".join(found["name"].split())
    return name if len(name) <= LETTERS and len(name.split()) <= WORDS else ""
