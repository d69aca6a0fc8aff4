"""Stored latents and embeddings against what diffusers' pipelines compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mmtune.image.diffusion.stages import FLIPPED, LatentStage, TextStage, text_part
from mmtune.image.image_row import ImageRow
from mmtune.prefix.stage import Part
from tests.image import tiny

CAPTIONS = ["red ball", "a blue box, " * 9, "x"]


@pytest.mark.parametrize("kind", tiny.KINDS)
@torch.no_grad()
def test_embeddings_equal_encode_prompt(kind: str) -> None:
    base = tiny.loaded(kind)
    stage = TextStage(base)
    for caption in CAPTIONS:
        [value] = stage.encode([text_part(caption)])
        expected = base.pipeline.encode_prompt(
            caption, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
        )
        assert torch.equal(value["embeds"], expected[0][0])
        if base.family.name == "SDXL":
            assert torch.equal(value["pooled"], expected[2][0])
        [empty] = stage.encode([text_part(" ")])
        assert torch.equal(empty["embeds"], expected[1][0])
        if base.family.name == "SDXL":
            assert torch.equal(empty["pooled"], expected[3][0])
            assert not empty["embeds"].any()
        else:
            assert empty["embeds"].any()
    assert text_part("") == text_part(" ")
    assert text_part("") != text_part("x")


@torch.no_grad()
def test_without_forced_zeros_the_empty_caption_is_encoded() -> None:
    base = tiny.loaded("sdxl")
    base.pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    [empty] = TextStage(base).encode([text_part("")])
    expected = base.pipeline.encode_prompt(
        "x", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    assert empty["embeds"].any()
    assert torch.equal(empty["embeds"], expected[1][0])
    assert torch.equal(empty["pooled"], expected[3][0])


def picture(folder: Path, size: tuple[int, int]) -> ImageRow:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.paste("red", (0, 0, size[0] // 2, size[1] // 3))
    path = folder / f"{size[0]}x{size[1]}.png"
    image.save(path)
    return ImageRow(id=path.stem, image=str(path), caption="c", content=path.stem)


@pytest.mark.parametrize("kind", tiny.KINDS)
@torch.no_grad()
def test_latents_decode_to_the_image_of_the_vae(kind: str, tmp_path: Path) -> None:
    base = tiny.loaded(kind)
    side = base.resolution
    row = picture(tmp_path, (side, side))
    stage = LatentStage(base, side)
    [plain] = stage.encode([Part("latent", row.content, 0, row)])
    [mirrored] = stage.encode([Part("latent", row.content, FLIPPED, row)])
    vae, processor = base.pipeline.vae, base.pipeline.image_processor
    pixels = processor.preprocess(Image.open(row.path))
    scale = vae.config.scaling_factor
    for value, expected in ((plain, pixels), (mirrored, pixels.flip(-1))):
        encoded = vae.encode(expected)
        if kind == "sdxl-one-encoder":
            assert torch.equal(value["latent"], encoded.latents[0] * scale)
        else:
            torch.testing.assert_close(value["mean"], encoded.latent_dist.mean[0] * scale)
            torch.testing.assert_close(value["std"], encoded.latent_dist.std[0] * scale)
        assert value["time_ids"].tolist() == [side, side, 0, 0, side, side]


@pytest.mark.parametrize(
    ("size", "ids"),
    [
        ((200, 100), [64, 64, 0, 32, 64, 64]),  # shrunk: as sharp as the target; sides cut off
        ((100, 300), [64, 64, 64, 0, 64, 64]),
        ((32, 48), [48, 32, 16, 0, 64, 64]),  # enlarged: it says so
    ],
)
def test_other_shapes_are_cut_and_never_squeezed(
    size: tuple[int, int], ids: list[int], tmp_path: Path
) -> None:
    from mmtune.image.diffusion.stages import scale_and_crop

    image = Image.new("RGB", size, "white")
    short = min(size)
    centre = (size[0] // 2, size[1] // 2)
    quarter = short // 4
    box = (centre[0] - quarter, centre[1] - quarter, centre[0] + quarter, centre[1] + quarter)
    image.paste("black", box)
    square, found = scale_and_crop(image, 64)
    assert found == ids
    assert square.size == (64, 64)
    dark = square.convert("L").point(lambda v: 255 * (v < 128)).getbbox()
    assert dark == (16, 16, 48, 48)
