"""Which value belongs to which part, whatever of them is cached already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Tensors


class Numbered:
    """A stage whose value tells its part; parts of one tens' digit share a shape."""

    def __init__(self, name: str, block: int) -> None:
        self.fingerprint, self.block = name, block
        self.calls: list[list[str]] = []

    def shape_key(self, part: Part) -> str:
        return str(int(part.source) // 10)

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        assert len({self.shape_key(part) for part in parts}) == 1
        self.calls.append([part.source for part in parts])
        return [{"x": torch.tensor([float(part.source), part.view])} for part in parts]


def values(found: Sequence[Tensors]) -> list[tuple[float, float]]:
    return [(float(each["x"][0]), float(each["x"][1])) for each in found]


ASKED = [7, 31, 2, 12, 30, 7, 11, 1, 33, 2]


@pytest.mark.parametrize("block", [1, 2, 16])
@pytest.mark.parametrize("stored", [[], [31], [2, 11], [33, 1, 12], sorted(set(ASKED))])
def test_each_part_gets_its_own_value(tmp_path: Path, stored: list[int], block: int) -> None:
    """A part that is cached must not take the place of one that is computed."""
    one, two = Numbered("one", block), Numbered("two", block)
    features = Features({"one": one, "two": two}, PrefixCache(tmp_path))
    parts = [Part("one" if n % 2 else "two", str(n), n % 3) for n in ASKED]
    known = [part for part in parts if int(part.source) in stored]
    assert features.fill(known) == len(stored)
    assert {part.source for part in features.missing(parts)} == {
        str(n) for n in ASKED if n not in stored
    }
    before = sum(map(len, one.calls + two.calls))
    assert values(features.get(parts)) == [(n, n % 3) for n in ASKED]
    assert sum(map(len, one.calls + two.calls)) - before == len(set(ASKED)) - len(stored)
    assert all(0 < len(call) <= block for call in one.calls + two.calls)
    assert features.missing(parts) == []
    assert values(features.get(parts[::-1])) == [(n, n % 3) for n in ASKED[::-1]]
    assert values(Features({"one": one, "two": two}, None).get(parts)) == [
        (n, n % 3) for n in ASKED
    ]


def test_filling_tells_how_far_it_is_and_computes_once(tmp_path: Path) -> None:
    stage = Numbered("one", 2)
    features = Features({"one": stage}, PrefixCache(tmp_path))
    parts = [Part("one", str(n)) for n in (1, 2, 3, 1)]
    told: list[int] = []
    assert features.fill(parts, told.append) == 3
    assert told == [2, 1]
    assert stage.calls == [["1", "2"], ["3"]]
    assert features.fill(parts, told.append) == 0
    assert told == [2, 1]
    other = Features({"one": Numbered("another base", 2)}, features.cache)
    assert other.missing(parts) == parts[:3]
    # Without a cache nothing is ever there.
    plain = Features({"one": stage}, None)
    plain.get(parts)
    assert plain.missing(parts) == parts[:3]
