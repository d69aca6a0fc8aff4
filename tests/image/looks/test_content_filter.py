"""Filters of content: what they may be, what they may answer, and what is said of wrong ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image
from safetensors.torch import load_file, save_file

from mmtune.errors import BaseModelError, ConfigError, MmtuneError
from mmtune.image.looks.content_filter import FILTER_BATCH, FILTERS, ContentFilter, load_filter
from mmtune.system.plugins import PluginError
from tests.image.looks.test_backbone import CPU, VISION, pictures, processor

MODULE = "a_filter_of_ours"
CODE = """
version = "of the module, which doesn't count"

def dark(images):
    return [sum(image.resize((1, 1)).getpixel((0, 0))) < 380 for image in images]

def words(images, prompts):
    return ["blood" in prompt for prompt in prompts]

class Redness:
    version = 3
    threshold = 0.5

    def __call__(self, images):
        return [image.resize((1, 1)).getpixel((0, 0))[0] / 255 for image in images]

class Broken:
    def __init__(self):
        raise OSError("its weights are missing")

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user's, as PYTHONPATH would name its folder."""
    path = tmp_path / f"{MODULE}.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop(MODULE, None)


def test_functions_and_classes_judge(module: Path) -> None:
    images = pictures(FILTER_BATCH + 3)
    prompts = ["a dog", "blood on the floor", *["a house"] * (len(images) - 2)]
    pixels = [image.resize((1, 1)).getpixel((0, 0)) for image in images]
    dark = load_filter(f"{MODULE}:dark", CPU)
    assert dark.refused(images, prompts) == [sum(pixel) < 380 for pixel in pixels]
    assert load_filter(f"{MODULE}:words", CPU).refused(images, prompts) == [
        "blood" in prompt for prompt in prompts
    ]
    red = load_filter(f"{MODULE}:Redness", CPU)
    assert red.refused(images, prompts) == [pixel[0] / 255 >= 0.5 for pixel in pixels]
    assert 0 < sum(red.refused(images, prompts)) < len(images)
    assert dark.refused([], []) == []


def test_the_identity_names_version_and_code(module: Path) -> None:
    first = load_filter(f"{MODULE}:Redness", CPU).identity
    assert first.startswith(f"{MODULE}:Redness, version 3, code ")
    assert load_filter(f"{MODULE}:dark", CPU).identity.startswith(f"{MODULE}:dark, code ")
    del sys.modules[MODULE]
    module.write_text(CODE.replace("380", "381"))
    assert load_filter(f"{MODULE}:Redness", CPU).identity != first


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (lambda images: [True, False], [True, False]),
        (lambda images: np.array([False, True]), [False, True]),
        (lambda images: torch.tensor([True, True]), [True, True]),
        (lambda images: (each for each in (False, True)), [False, True]),
    ],
)
def test_what_a_filter_may_answer(given: Any, refused: list[bool]) -> None:
    assert ContentFilter("ours", "", given).refused(pictures(2), ["", ""]) == refused


def fails(images: Sequence[Image]) -> list[bool]:
    raise ValueError("no weights\nwere found")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (fails, "failed on 2 images: ValueError: no weights"),
        (lambda: [True, False], "failed on 2 images: TypeError"),
        (lambda images: True, "failed on 2 images: TypeError"),
        (lambda images: [True], "gave 1 answers for 2 images"),
        (lambda images: [True] * 3, "gave 3 answers for 2 images"),
        (lambda images: ["yes", "no"], "answered 'yes' for an image"),
        (lambda images: [None, None], "answered 'None' for an image"),
        (lambda images: [float("nan"), 0.1], "answered 'nan' for an image"),
        (lambda images: [0.7, 0.1], "answered 0.7, and has no threshold"),
    ],
)
def test_a_filter_that_fails_is_an_error_with_a_cure(given: Any, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        ContentFilter("ours", "", given).refused(pictures(2), ["", ""])
    assert "task.image_filter: the filter ours" in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module_of_ours:fn", "can't be imported: ModuleNotFoundError"),
        (f"{MODULE}:drak", "has no 'drak'"),
        (f"{MODULE}:number", "is a int, which can't be called"),
        (f"{MODULE}:Broken", "can't be made: OSError: its weights are missing"),
        ("nudity", "unknown image filter 'nudity'"),
        ("./no-checker", "unknown image filter './no-checker'"),
    ],
)
def test_a_name_of_nothing_is_an_error(module: Path, name: str, said: str) -> None:
    with pytest.raises(MmtuneError) as caught:
        load_filter(name, CPU)
    assert said in str(caught.value)
    assert "task.image_filter" in str(caught.value)
    assert caught.value.cure


def test_a_filter_of_this_process_goes_by_its_name() -> None:
    FILTERS.add("everything", lambda images: [True] * len(images))
    try:
        found = load_filter("everything", CPU)
        assert found.refused(pictures(3), [""] * 3) == [True] * 3
        assert found.identity.startswith("everything, code ")
    finally:
        FILTERS.remove("everything")
    with pytest.raises(ConfigError):
        load_filter("everything", CPU)


def test_a_filter_cannot_change_the_images() -> None:
    def blacken(images: Sequence[Image]) -> list[bool]:
        for image in images:
            image.paste((0, 0, 0), (0, 0, *image.size))
        return [True] * len(images)

    images, before = pictures(2), [each.tobytes() for each in pictures(2)]
    ContentFilter("ours", "", blacken).refused(images, ["", ""])
    assert [each.tobytes() for each in images] == before


# --- Stable Diffusion's safety checker ---


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random safety checker in diffusers' format, whose thresholds refuse some pictures."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.manual_seed(0)
    model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=VISION, projection_dim=12)).eval()
    with torch.no_grad():
        model.visual_projection.weight.copy_(torch.randn(12, 16))
        model.concept_embeds.copy_(torch.randn(17, 12))
        model.special_care_embeds.copy_(torch.randn(3, 12))
        pixels = processor()(images=pictures(), return_tensors="pt")["pixel_values"]
        pooled = model.visual_projection(model.vision_model(pixels)[1])
        near = torch.nn.functional.cosine_similarity(pooled[:, None], model.concept_embeds, dim=2)
        # Between the pictures: some are nearer to a concept than the mean of the nearest.
        model.concept_embeds_weights.fill_(float(near.max(1).values.mean()))
    folder = tmp_path_factory.mktemp("checker") / "safety_checker"
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def by_hand(folder: Path) -> list[bool]:
    """By the checker's rule: an image is refused if it is nearer to a concept than the
    concept's threshold, less 0.01 once it is near a concept of special care."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    model: Any = StableDiffusionSafetyChecker.from_pretrained(folder).eval()
    pixels = processor()(images=pictures(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        pooled = model.visual_projection(model.vision_model(pixels)[1])[:, None]
    cosine = torch.nn.functional.cosine_similarity
    special = cosine(pooled, model.special_care_embeds, dim=2) > model.special_care_embeds_weights
    near = cosine(pooled, model.concept_embeds, dim=2) - model.concept_embeds_weights
    return [bool(each) for each in ((near + 0.01 * special.any(1, keepdim=True)) > 0).any(1)]


def test_a_safety_checker_judges_as_diffusers_does(checker: Path, tmp_path: Path) -> None:
    found = load_filter(str(checker), CPU)
    refused = found.refused(pictures(), [""] * 5)
    assert refused == by_hand(checker)
    assert 0 < sum(refused) < 5
    assert found.identity.startswith("safety_checker, weights ")
    # In a pipeline's folder the image processor is beside it.
    shutil.copytree(checker, tmp_path / "sd" / "safety_checker")
    (tmp_path / "sd" / "feature_extractor").mkdir()
    preprocessor = tmp_path / "sd" / "safety_checker" / "preprocessor_config.json"
    preprocessor.rename(tmp_path / "sd" / "feature_extractor" / preprocessor.name)
    for place in (tmp_path / "sd", tmp_path / "sd" / "safety_checker"):
        assert load_filter(str(place), CPU).refused(pictures(), [""] * 5) == refused


def test_a_checker_that_an_earlier_transformers_wrote_is_read(
    checker: Path, tmp_path: Path
) -> None:
    """There the vision model was a part of a model of the same name."""
    folder = tmp_path / "checker"
    shutil.copytree(checker, folder)
    tensors = load_file(folder / "model.safetensors")
    doubled = "vision_model.vision_model."
    old = {
        name if name.startswith(doubled) else name.replace("vision_model.", doubled, 1): tensor
        for name, tensor in tensors.items()
    }
    save_file(old, folder / "model.safetensors", {"format": "pt"})
    assert load_filter(str(folder), CPU).refused(pictures(), [""] * 5) == by_hand(checker)


def damage(folder: Path, kind: str) -> None:
    weights = folder / "model.safetensors"
    if kind == "pickled":
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    elif kind == "nan":
        tensors = load_file(weights)
        tensors["visual_projection.weight"][0, 0] = float("nan")
        save_file(tensors, weights, {"format": "pt"})
    elif kind == "other model":
        tensors = load_file(weights)
        save_file(
            {k: v for k, v in tensors.items() if "embeds" not in k}, weights, {"format": "pt"}
        )
    else:
        (folder / kind).unlink()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pickled", "can't be loaded"),
        ("nan", "hold NaN or infinite values"),
        ("other model", "is no safety checker: it has no concept_embeds"),
        ("config.json", "can't be loaded"),
        ("preprocessor_config.json", "can't be loaded"),
    ],
)
def test_a_damaged_checker_is_refused(checker: Path, tmp_path: Path, kind: str, said: str) -> None:
    folder = tmp_path / "checker"
    shutil.copytree(checker, folder)
    damage(folder, kind)
    with pytest.raises(BaseModelError, match=said):
        load_filter(str(folder), CPU)
