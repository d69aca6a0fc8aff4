"""Encoders by folder: embeddings and CLIP scores against transformers and torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.multimodal import clip_score

from mmtune.errors import BaseModelError
from mmtune.image.looks.backbone import ClipScorer, load_backbone
from mmtune.metrics.image.clip_score import clip_scores
from tests.image.tiny import LENGTH, tokenizer

CPU = torch.device("cpu")
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def pictures(count: int = 5) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(b).resize((48, 40), Image.Resampling.NEAREST) for b in blocks]


def processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP with tokenizer and processor, as a user would have it in a folder."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    words = tokenizer()
    text = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)).eval()
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=processor(), tokenizer=words).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_clip_scores_are_those_of_torchmetrics(clip: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    class Bare(CLIPModel):
        """As transformers 4 answered, which torchmetrics expects."""

        def get_image_features(self, *args: Any, **kwargs: Any) -> Any:
            return super().get_image_features(*args, **kwargs).pooler_output

        def get_text_features(self, *args: Any, **kwargs: Any) -> Any:
            return super().get_text_features(*args, **kwargs).pooler_output

    captions = ["red apple", "a bus", "violin", "ant", "the very blue house by the sea"]
    images = pictures()
    scorer = ClipScorer(str(clip), CPU)
    found = clip_scores(scorer.images(images), scorer.texts(captions))

    def both() -> tuple[Any, Any]:
        return Bare.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)

    tensors = [torch.from_numpy(np.asarray(image)).permute(2, 0, 1) for image in images]
    singly = [float(clip_score(t, c, both)) for t, c in zip(tensors, captions, strict=True)]
    # torchmetrics clips after the mean of a batch, so each is scored alone.
    np.testing.assert_allclose(found[:, 0], singly, atol=1e-3)
    assert np.ptp(found) > 0.1


@torch.no_grad()
def test_a_batch_does_not_change_an_embedding(clip: Path) -> None:
    scorer = ClipScorer(str(clip), CPU)
    together = scorer.texts(["a", "a much longer one"])
    np.testing.assert_allclose(together[:1], scorer.texts(["a"]), atol=1e-5)
    images = pictures(40)
    embedded = scorer.images(images)
    np.testing.assert_allclose(embedded[35:], scorer.images(images[35:]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_a_vision_model_gives_what_it_was_trained_to_compare(tmp_path: Path, kind: str) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**VISION, projection_dim=12)
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    images = pictures()
    output = model(**processor()(images=images, return_tensors="pt"))
    wanted = output.image_embeds if "Projection" in kind else output.pooler_output
    unit = torch.nn.functional.normalize(wanted, dim=1)
    np.testing.assert_allclose(load_backbone(str(tmp_path), CPU)(images), unit, atol=1e-5)
    with pytest.raises(BaseModelError, match="reads no text"):
        ClipScorer(str(tmp_path), CPU)


@torch.no_grad()
def test_dinov2_gives_its_pooled_token(tmp_path: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    shape = {k: v for k, v in VISION.items() if k != "intermediate_size"}
    model = Dinov2Model(Dinov2Config(**shape, mlp_ratio=2)).eval()
    model.save_pretrained(tmp_path)
    reads = BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_resize=True
    )
    reads.save_pretrained(tmp_path)
    images = pictures()
    first = model(**reads(images=images, return_tensors="pt")).last_hidden_state[:, 0]
    unit = torch.nn.functional.normalize(first, dim=1)
    np.testing.assert_allclose(load_backbone(str(tmp_path), CPU)(images), unit, atol=1e-5)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="can't be loaded"):
        load_backbone(str(tmp_path / "missing"), CPU)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["X"]}')
    with pytest.raises(BaseModelError, match=r"encoder .* can't be loaded"):
        load_backbone(str(tmp_path), CPU)
