"""Which npm icon sets may be used, which may not, and which of their icons show a concept.

`brands.json` lists what no part may be trained on; `sets.json` what the starter is trained on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
PERMITTED = ("MIT", "Apache-2.0", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0")
# Parts of a name that say how and not what: "car-bold" is a car.
_HOW = (
    "bold|duotone|fill|filled|line|outline|outlined|rounded|round|sharp|light|thin|solid|linear|"
    "broken|variant|regular|[0-9]+"
)
_SUFFIX = re.compile(rf"(-({_HOW}))+$")
MOST = 6  # drawings of one concept in one set


class NotPermitted(ValueError):
    """A set that no training may see, or whose licence isn't one of `PERMITTED`."""


def read(name: str) -> dict:
    return json.loads((HERE / name).read_text())


@cache
def excluded() -> dict[str, str]:
    """Package -> the brand for whose sake no part is trained on it."""
    found = {}
    for brand, facts in read("brands.json")["brands"].items():
        for package in (facts["package"], *facts["siblings"]):
            found[package] = brand
    return found


def refuse_excluded(packages) -> None:
    """Raise NotPermitted if one of the packages is in brands.json."""
    for package in packages:
        if package in excluded():
            raise NotPermitted(f"{package} is kept unseen (tools/starter/brands.json)")


@dataclass(frozen=True)
class IconSet:
    """One npm package. `word` names its style in a caption; `drawings`: whose shapes they are."""

    package: str
    word: str | None
    kind: str  # colour or glyph
    drawings: str
    data: dict

    def find(self, concept: str) -> list[str]:
        """The names of its icons of a concept, the plainest first."""
        words = _read_synonyms()
        skip = words["skip"].get(self.package, [])
        if self.kind == "glyph" and self.package != "game-icons":
            skip = [*skip, *words["skip"]["*glyph"]]
        if concept in skip:
            return []
        by_name = _by_name(self)
        found: list[str] = []
        for name in (concept, *words["names"].get(concept, [])):
            found += [n for n in by_name.get(name, []) if n not in found]
        return sorted(found, key=lambda n: (len(n), n))[:MOST]


@cache
def _read_synonyms() -> dict:
    return read("synonyms.json")


_NAMES: dict[str, dict[str, list[str]]] = {}


def _by_name(icon_set: IconSet) -> dict[str, list[str]]:
    if icon_set.package not in _NAMES:
        names: dict[str, list[str]] = {}
        own = icon_set.data["icons"]
        parents = {a["parent"] for a in icon_set.data.get("aliases", {}).values()}
        aliases = {n: a["parent"] for n, a in icon_set.data.get("aliases", {}).items()}
        for name in own:
            names.setdefault(_SUFFIX.sub("", name), []).append(name)
        for name, parent in aliases.items():
            if parent in own and parents:
                listed = names.setdefault(_SUFFIX.sub("", name), [])
                if parent not in listed:
                    listed.append(parent)
        _NAMES[icon_set.package] = names
    return _NAMES[icon_set.package]


def said(concept: str) -> list[str]:
    """What a prompt may call a concept; its own name first."""
    return [concept.replace("-", " "), *_read_synonyms()["said"].get(concept, [])]


def training_sets(where: Path) -> list[IconSet]:
    """The sets of sets.json, read from `where` (npm's @iconify-json folder).

    Raises:
        NotPermitted: one of them is excluded, or its licence isn't permitted.
    """
    sets = read("sets.json")["sets"]
    refuse_excluded(sets)
    found = []
    for package, facts in sets.items():
        info = json.loads((where / package / "info.json").read_text())
        licence = info["license"].get("spdx") or info["license"]["title"]
        if licence not in PERMITTED or licence != facts["licence"]:
            raise NotPermitted(f"{package} has the licence {licence}")
        data = json.loads((where / package / "icons.json").read_text())
        found.append(IconSet(package, facts["word"], facts["kind"], facts["drawings"], data))
    return found


def concepts() -> list[str]:
    return read("concepts.json")["concepts"]


def held_out() -> set[tuple[str, str]]:
    """(concept, drawings) pairs that no training sees, in whatever set they come."""
    sets = read("sets.json")["sets"]
    return {
        (concept, sets[package]["drawings"])
        for concept, package in read("concepts.json")["held_out_pairs"]
        if package in sets
    }


@cache
def alike() -> dict[tuple[str, str, str], bool]:
    """(concept, package, icon) that training sees (alike.py) -> whether it is mirrored."""
    found = read("alike.json")["icons"]
    return {(c, p, icon): turned for c, kept in found.items() for p, icon, turned in kept}


@cache
def near_copies() -> set[tuple[str, str]]:
    """(package, icon) that an excluded set draws almost alike (near.py)."""
    return {(each["set"], each["icon"]) for each in read("near.json")["icons"]}
