"""Which way each figure is better: a wrong one turns gates and verdicts round."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import mmtune.metrics.image
import mmtune.metrics.text
from mmtune.metrics.metric import Quantity

BETTER_HIGHER = {"diversity", "CLIP score", "prompt match", "content", "style", "palette"}
BETTER_LOWER = {
    "KID",
    "CMMD",
    "copies",
    "refused images",
    "style distance",
    "nearest training image",
    *("off-palette images", "wrong grounds", "forbidden things"),
}


def quantities() -> Iterator[Quantity]:
    for package in (mmtune.metrics.image, mmtune.metrics.text):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(found.name)).values():
                if isinstance(value, Quantity):
                    yield value


def test_each_quantity_is_better_in_the_direction_of_its_meaning() -> None:
    found = {each.name: each.higher_is_better for each in quantities()}
    assert {name for name, higher in found.items() if higher} <= BETTER_HIGHER
    assert {name for name, higher in found.items() if not higher} <= BETTER_LOWER
    assert {"CLIP score", "prompt match", "content", "KID", "copies"} <= found.keys()
