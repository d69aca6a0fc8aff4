"""Each setting has a description that says something, a unit, a range and a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from mmtune.settings.declare import Setting, is_number, setting, settings_of
from tests.settings.models import ALL

FILLERS = {"a", "an", "and", "be", "by", "for", "in", "is", "it", "of", "or", "the", "to", "value"}


def faults(settings: Iterable[Setting]) -> list[str]:
    """What each setting lacks, one line each."""
    found = []
    for each in settings:
        said = words(each.about) - FILLERS
        if not each.about:
            found.append(f"{each.name}: no description")
        elif all(any(alike(word, own) for own in words(each.name)) for word in said):
            found.append(f"{each.name}: its description only repeats its name")
        if is_number(each.kind) and not each.unit:
            found.append(f"{each.name}: a number without unit")
        if is_number(each.kind) and not each.limits:
            found.append(f"{each.name}: a number without range")
        if not each.required and not each.why:
            found.append(f"{each.name}: no reason for its default")
    return found


def words(text: str) -> set[str]:
    """Words in lower case."""
    return set(re.findall(r"[a-z]+", text.lower()))


def alike(word: str, other: str) -> bool:
    """Whether one word begins with the other, as a plural does."""
    return word.startswith(other) or other.startswith(word)


def test_every_setting_explains_itself() -> None:
    assert len(ALL) > 80
    assert faults(ALL.values()) == []


class Planted(BaseModel):
    """Settings with one fault each."""

    batch_size: int = setting(1, "The size of the batches.", unit="rows", why="x")
    silent: bool = setting(False, "", why="x")
    rate: float | None = setting(None, "How fast weights change.", why="x")
    several: tuple[Annotated[float, Field(gt=0)], ...] = setting((), "Strengths to try.", why="x")
    arbitrary: str = setting("x", "Where the run writes.")
    undescribed: int = 3


def test_faults_are_seen() -> None:
    assert faults(settings_of(Planted)) == [
        "batch_size: its description only repeats its name",
        "silent: no description",
        "rate: a number without unit",
        "several: a number without unit",
        "arbitrary: no reason for its default",
        "undescribed: no description",
        "undescribed: a number without unit",
        "undescribed: no reason for its default",
    ]


class Ranged(BaseModel):
    """Types and ranges."""

    a: float = setting(0, "", ge=0, lt=1)
    b: int | None = setting(None, "", ge=2)
    c: Annotated[int, Field(ge=0)] | Literal["all"] = setting(0, "")
    d: tuple[Annotated[float, Field(gt=0)], ...] = setting((), "")
    e: Literal["x", "y", "z"] = setting("x", "")
    f: float = setting(0, "", gt=0, le=9)
    g: int = setting(0, "")
    h: tuple[str, ...] = setting((), "")


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("a", "0 to below 1"),
        ("b", "2 or more, or null"),
        ("c", "0 or more, or all"),
        ("d", "list of numbers above 0"),
        ("e", "x, y or z"),
        ("f", "above 0 and at most 9"),
        ("g", "any whole number"),
        ("h", "list of texts"),
    ],
)
def test_ranges_in_words(name: str, limits: str) -> None:
    assert {each.name: each.limits for each in settings_of(Ranged)}[name] == limits
