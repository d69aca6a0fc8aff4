"""Encoders that judge images, loaded by name: our own small ones, and those of the hub.

`starter:style` and `starter:match` are small networks of our own. A hub id or a folder names a
CLIP, SigLIP, DINOv2 or another image encoder of transformers. Nothing is downloaded unless a
setting names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor

from mmtune.errors import BaseModelError, first_line
from mmtune.image.looks.embedding import Embed, Scorer, Vectors
from mmtune.metrics.image.clip_score import CLIP_SCORE, PROMPT_MATCH
from mmtune.system.installed import intact_asset
from mmtune.system.quiet import quiet
from mmtune.system.tensors import require_finite

STYLE = "starter:style"
MATCH = "starter:match"
EMBED_BATCH = 32  # images embedded at once


def load_backbone(name: str, device: torch.device) -> Embed:
    """Load an image encoder.

    Args:
        name: `starter:style`, a hub id, or a folder that `save_pretrained` wrote.
        device: device that computes.

    Returns:
        A function from images to unit vectors, [images, width]. For CLIP and SigLIP these are the
        vectors that are compared with texts. For other models (DINOv2) they are the pooled output,
        or the first token if the model doesn't pool.

    Raises:
        BaseModelError: the encoder can't be found or loaded, or reads no images.
    """
    if name == STYLE:
        return _StyleEncoder(device)
    return _HubEncoder(name, device)


def load_scorer(name: str, device: torch.device) -> Scorer:
    """Load an image-text scorer.

    Args:
        name: `starter:match`, or the hub id or folder of a CLIP or SigLIP.
        device: device that computes.

    Raises:
        BaseModelError: the model can't be found or loaded, or reads no text.
    """
    return PromptMatchScorer(device) if name == MATCH else ClipScorer(name, device)


class _StyleEncoder:
    def __init__(self, device: torch.device) -> None:
        from mmtune.image.looks.style_net import load_style_net

        self._net = load_style_net(intact_asset("style-encoder", BaseModelError)).to(device)
        self._device = device

    @torch.no_grad()
    def __call__(self, images: Sequence[Image]) -> Vectors:
        from mmtune.image.looks.style_net import SIDE

        return _in_batches(self._net, images, SIDE, self._device)


class PromptMatchScorer:
    """The scorer `starter:match`: a small network that knows icons and their names."""

    metric = PROMPT_MATCH.name
    min_recall: float | None = 0.5  # it is small, so a score gap alone isn't enough to trust it

    def __init__(self, device: torch.device) -> None:
        from mmtune.image.looks.match_net import load_match_net

        self._net = load_match_net(intact_asset("prompt-match", BaseModelError)).to(device)
        self._device = device

    @torch.no_grad()
    def images(self, images: Sequence[Image]) -> Vectors:
        """Embed images as unit vectors, [images, width]; mirror images get equal vectors."""
        from mmtune.image.looks.match_net import SIDE

        def both(x: Tensor) -> Tensor:
            found = self._net.images(x) + self._net.images(x.flip(3))
            return torch.nn.functional.normalize(found, dim=1)

        return _in_batches(both, images, SIDE, self._device)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as unit vectors, [texts, width]."""
        return _to_numpy(self._net.texts(texts))


def _in_batches(
    encode: Callable[[Tensor], Tensor], images: Sequence[Image], side: int, device: torch.device
) -> Vectors:
    """Encode images in batches; `encode` gets [images, 3, side, side], RGB from 0 to 1."""
    pixels = [np.asarray(i.convert("RGB").resize((side, side), Resampling.BOX)) for i in images]
    rows = []
    for start in range(0, len(pixels), EMBED_BATCH):
        x = torch.from_numpy(np.stack(pixels[start : start + EMBED_BATCH])).to(device)
        rows.append(encode(x.permute(0, 3, 1, 2).float() / 255))
    return _to_numpy(torch.cat(rows))


class _HubEncoder:
    def __init__(self, name: str, device: torch.device) -> None:
        from transformers import AutoImageProcessor

        self.name = name
        self._device = device
        with _loading(name):
            self.model = _load_model(name).to(device)
            self._processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image]) -> Vectors:
        rows = []
        for start in range(0, len(images), EMBED_BATCH):
            part = [image.convert("RGB") for image in images[start : start + EMBED_BATCH]]
            pixels = self._processor(images=part, return_tensors="pt")["pixel_values"]
            rows.append(self._pooled(pixels.to(self._device)))
        return _to_numpy(torch.nn.functional.normalize(torch.cat(rows), dim=1))

    def _pooled(self, pixels: Tensor) -> Tensor:
        if hasattr(self.model, "get_image_features"):
            return _as_tensor(self.model.get_image_features(pixel_values=pixels))
        output = self.model(pixel_values=pixels)
        for field in ("image_embeds", "pooler_output"):
            if (found := getattr(output, field, None)) is not None:
                # Convolutional models pool to [n, width, 1, 1].
                vectors: Tensor = found.flatten(1)
                return vectors
        first: Tensor = output.last_hidden_state[:, 0]
        return first


class ClipScorer:
    """A scorer by CLIP (arXiv 2103.00020) or SigLIP (arXiv 2303.15343).

    Args:
        name: a hub id or a folder.
        device: device that computes.

    Raises:
        BaseModelError: the model can't be found or loaded, or reads no text.
    """

    metric = CLIP_SCORE.name
    min_recall: float | None = None

    def __init__(self, name: str, device: torch.device) -> None:
        from transformers import AutoTokenizer

        self._encoder = encoder = _HubEncoder(name, device)
        self.model = encoder.model
        self._device = device
        if not hasattr(self.model, "get_text_features"):
            raise BaseModelError(
                f"{name} is a {type(self.model).__name__}, which reads no text",
                f"task.clip_model needs {MATCH}, or a CLIP or SigLIP, such as "
                "openai/clip-vit-base-patch32",
            )
        with _loading(name):
            self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        settings = self.model.config.text_config
        self._length = int(settings.max_position_embeddings)
        # SigLIP was trained on texts padded to full length; without padding its vectors differ.
        self._padding = "max_length" if "siglip" in settings.model_type else "longest"

    def images(self, images: Sequence[Image]) -> Vectors:
        """Embed images as unit vectors, [images, width]."""
        return self._encoder(images)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as unit vectors, [texts, width]; texts beyond the model's limit are cut."""
        rows = []
        for start in range(0, len(texts), EMBED_BATCH):
            tokens = self._tokenizer(
                list(texts[start : start + EMBED_BATCH]),
                padding=self._padding,
                truncation=True,
                max_length=self._length,
                return_tensors="pt",
            ).to(self._device)
            rows.append(_as_tensor(self.model.get_text_features(**tokens)))
        return _to_numpy(torch.nn.functional.normalize(torch.cat(rows), dim=1))


def _load_model(name: str) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    named = (getattr(config, "architectures", None) or [""])[0]
    # AutoModel would drop the projection, which makes the vectors that training compared.
    projected = named.endswith("VisionModelWithProjection")
    kind = getattr(transformers, named) if projected else transformers.AutoModel
    # Safetensors only: a pickled checkpoint can run code.
    model = kind.from_pretrained(
        name, use_safetensors=True, dtype=torch.float32, trust_remote_code=False
    )
    require_finite(
        model.state_dict(), f"the encoder {name}", BaseModelError, "download or copy it again"
    )
    if "pixel_values" not in (model.main_input_name, *_inputs(model)):
        raise BaseModelError(
            f"{name} is a {type(model).__name__}, which reads no images",
            "name an image encoder, such as facebook/dinov2-small",
        )
    return model.requires_grad_(False).eval()


def _inputs(model: Any) -> list[str]:
    import inspect

    return list(inspect.signature(model.forward).parameters)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        with quiet():
            yield
    except BaseModelError:
        raise
    except Exception as error:  # transformers and the hub raise many kinds
        raise BaseModelError(
            f"the encoder {name} can't be loaded: {first_line(error)}",
            "correct the hub id or folder (it needs safetensors and preprocessor_config.json), "
            "connect to the hub, or leave the setting out",
        ) from error


def _as_tensor(output: Any) -> Tensor:
    # transformers 5 wraps the tensor that version 4 returns.
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


def _to_numpy(vectors: Tensor) -> Vectors:
    return vectors.double().cpu().numpy()
