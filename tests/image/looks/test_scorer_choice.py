"""Which model judges captions, and what is said where none does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.errors import BaseModelError
from mmtune.image.evaluation.compared_images import ComparedImages
from mmtune.image.evaluation.prompt_measures import content_measure
from mmtune.image.looks import scorer_choice
from mmtune.image.looks.backbone import MATCH
from mmtune.image.looks.scorer_choice import DEFAULT_CLIP, ScorerChoice, choose_scorer
from tests.image.evaluation.test_measures import picture, row
from tests.image.looks.test_backbone import clip

__all__ = ["clip"]
CPU = torch.device("cpu")
HUB = "stabilityai/stable-diffusion-xl-base-1.0"


def test_a_base_brings_its_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert choose_scorer(None, "starter:icons") == ScorerChoice(MATCH)
    assert choose_scorer(None, HUB) == ScorerChoice(DEFAULT_CLIP)
    assert choose_scorer("some/clip", HUB) == ScorerChoice("some/clip", named=True)
    off = choose_scorer("none", HUB)
    assert (off.name, off.reason) == (None, "task.clip_model is none")
    assert off.load(CPU) == (None, off.reason)
    # For a base in a folder nothing is downloaded that nobody named.
    monkeypatch.setattr(scorer_choice, "_is_here", lambda repository: False)
    folder = choose_scorer(None, str(tmp_path))
    assert folder.name is None
    assert "not on this machine; name a scorer by --clip_model" in folder.reason
    monkeypatch.setattr(scorer_choice, "_is_here", lambda repository: True)
    assert choose_scorer(None, str(tmp_path)) == ScorerChoice(DEFAULT_CLIP)


def test_a_scorer_that_cannot_be_loaded_is_an_error_only_if_it_was_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-clip")
    scorer, reason = ScorerChoice(missing).load(CPU)
    assert scorer is None
    assert "no-clip can't be loaded" in reason
    assert "name another scorer: --clip_model" in reason
    with pytest.raises(BaseModelError, match="can't be loaded"):
        ScorerChoice(missing, named=True).load(CPU)


def test_the_default_clip_is_wired_and_tested_before_it_judges(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random CLIP can be loaded and asked, and knows nothing: so content isn't known."""
    monkeypatch.setattr(scorer_choice, "DEFAULT_CLIP", str(clip))
    scorer, reason = scorer_choice.choose_scorer(None, HUB).load(CPU)
    assert scorer is not None
    assert reason == ""
    rows, real = [row(f"thing {i}") for i in range(12)], [picture(i) for i in range(12)]
    images = ComparedImages(rows, 1, real, real, real, real)
    found = content_measure(images, scorer, scorer.images)
    assert found.adapter.value != found.adapter.value
    assert found.note.startswith("CLIP score can't judge these images")
