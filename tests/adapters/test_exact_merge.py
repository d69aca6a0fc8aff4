"""A merge by "cat" must be the exact sum, whoever computes it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmtune.adapters.card import Card
from mmtune.adapters.compose import MAX_DISTANCE, compose
from mmtune.adapters.members import Member, Merge, Mixing
from mmtune.errors import AdapterError


def members() -> tuple[Member, ...]:
    card = Card(
        name="a", recipe="r", modality="speech", base="starter:whisper-tiny.en", base_hash="0" * 64,
        dataset="0" * 64, rows={"train": 3}, settings={"task": {}},
    )  # fmt: skip
    return tuple(
        Member(Path(name), weight, card, name) for name, weight in (("a", 1.0), ("b", 2.0))
    )


@pytest.mark.parametrize(
    ("method", "distance", "allowed"),
    [
        ("cat", 0.0, True),
        ("cat", MAX_DISTANCE, True),
        ("cat", 1.01 * MAX_DISTANCE, False),
        ("cat", 0.3, False),
        ("cat", math.nan, False),
        ("cat", math.inf, False),
        ("svd", 0.3, True),
        ("linear", 0.3, True),
    ],
)
def test_an_inexact_cat_is_refused(
    tmp_path: Path, method: str, distance: float, allowed: bool
) -> None:
    asked: list[Merge] = []

    def merge(request: Merge) -> float:
        asked.append(request)
        save_file({"w": torch.ones(2)}, request.to / "adapter_model.safetensors")
        return distance

    out = tmp_path / "merged"
    if allowed:
        done = compose(members(), Mixing(method), out, merge)
        assert done.distance == distance
        assert (out / "adapter_model.safetensors").is_file()
    else:
        with pytest.raises(AdapterError, match="differs from the sum of its parts"):
            compose(members(), Mixing(method), out, merge)
        assert not list(tmp_path.iterdir())  # and nothing is left of it
    assert len(asked) == 1
    assert math.isclose(MAX_DISTANCE, 1e-5)
