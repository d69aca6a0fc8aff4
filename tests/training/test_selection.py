"""The strength of an adapter: scaled weights, and which scale is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from mmtune.training.selection import Point, best_point, recommend
from mmtune.training.strength import can_scale, scaled
from mmtune.training.task import Monitor

LESS, MORE = Monitor("wer", higher_is_better=False), Monitor("style", higher_is_better=True)


def adapted(**options: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    config = LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False, **options)
    return get_peft_model(model, config)  # type: ignore[arg-type]


def test_scaled_weights_act_as_peft_scales_them() -> None:
    from peft.helpers import rescale_adapter_scale

    model, x = adapted(), torch.randn(3, 6)
    with torch.no_grad():
        full = model(x)
        for scale in (0.0, 0.25, 1.0):
            with rescale_adapter_scale(model, scale):
                theirs = model(x)
            with scaled(model, scale):
                torch.testing.assert_close(model(x), theirs)
        with model.disable_adapter(), scaled(model, 0.0):
            base = model(x)
        with scaled(model, 0.0):
            assert torch.equal(model(x), base)
        assert torch.equal(model(x), full)


def test_what_is_saved_is_scaled(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = adapted()
    model.save_pretrained(str(tmp_path / "full"))
    with scaled(model, 0.5):
        model.save_pretrained(str(tmp_path / "half"))
    full = load_file(tmp_path / "full/adapter_model.safetensors")
    half = load_file(tmp_path / "half/adapter_model.safetensors")
    for name, weight in full.items():
        factor = 0.5 if "lora_B" in name else 1.0
        assert torch.equal(half[name], weight * factor)


def test_an_error_restores_the_weights() -> None:
    model = adapted()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RuntimeError), scaled(model, 0.1):
        raise RuntimeError
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_dora_and_no_lora_have_no_scale() -> None:
    assert can_scale(adapted())
    for model in (adapted(use_dora=True), nn.Linear(2, 2)):
        assert not can_scale(model)
        with pytest.raises(ValueError, match=r"scale"), scaled(model, 0.5):
            pass


def points(*values: tuple[float, float, float | None]) -> list[Point]:
    return [Point(*each) for each in values]


def test_the_best_that_keeps_what_must_stay() -> None:
    found = points((0, 0.5, 0.20), (0.5, 0.3, 0.205), (1, 0.2, 0.26))
    assert best_point(found, LESS, 0.01).scale == 0.5
    assert best_point(found, LESS, 0.1).scale == 1
    assert best_point(found, LESS, 0.001).scale == 0
    up = points((0, 0.0, 0.8), (0.5, 0.4, 0.795), (1, 0.6, 0.7))
    assert best_point(up, MORE, 0.01).scale == 0.5
    assert best_point(points((0, 0.5, None), (1, 0.6, None)), LESS, 0.0).scale == 0


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=6),
    st.floats(0, 0.5),
)
def test_no_chosen_scale_breaks_the_rule(values: list[tuple[float, float]], lose: float) -> None:
    found = [Point(i / 4, *each) for i, each in enumerate(values)]
    chosen = best_point(found, LESS, lose)
    allowed = [p for p in found if p.retained - found[0].retained <= lose or p.scale == 0]  # type: ignore[operator]
    assert chosen in allowed
    assert chosen.value == min(point.value for point in allowed)


def judged(*values: tuple[float, float, float, float | None]) -> list[Point]:
    """Scale, value, half the width of its interval, and what is kept."""
    return [Point(s, v, k, v - w, v + w) for s, v, w, k in values]


@pytest.mark.parametrize(
    ("found", "scale", "words"),
    [
        # The knee: 0.6 can't be told from the best, 0.3 can.
        (
            judged((0, 0, 0, 1), (0.3, 0.2, 0.1, 0.9), (0.6, 0.5, 0.1, 0.8), (1, 0.55, 0.1, 0.6)),
            0.6,
            "the smallest strength whose style is within the interval of the best (scale 1)",
        ),
        # The knee costs too much: the most look among those that keep the content.
        (
            judged((0, 0, 0, 1), (0.3, 0.2, 0.1, 0.9), (0.6, 0.5, 0.1, 0.4), (1, 0.55, 0.1, 0.2)),
            0.3,
            "scale 0.6 has a better style but keeps only 0.40",
        ),
        (judged((0, 0, 0, 1), (0.5, -0.1, 0.1, 1), (1, -0.2, 0.1, 1)), 0.0, "use the base"),
        (judged((0, 0, 0, 1), (0.5, 0.3, 0.1, 0.1)), 0.0, "keeps 0.5 of the content"),
        (judged((0, 0, 0, 1), (0.5, 0.1, 0.1, 1), (1, 0.9, 0.1, None)), 1.0, "has the best style"),
    ],
)
def test_the_knee_is_recommended_and_says_why(found: list[Point], scale: float, words: str) -> None:
    for monitor, sign in ((MORE, 1), (Monitor("style", higher_is_better=False), -1)):
        turned = [
            Point(p.scale, sign * p.value, p.retained, *sorted((sign * p.low, sign * p.high)))
            for p in found
        ]
        advice = recommend(turned, monitor, 0.5)
        assert advice.chosen.scale == scale
        assert words in advice.reason
        assert list(advice.points) == turned
