"""Stable Diffusion's safety checker as a filter of content.

The format is diffusers' `StableDiffusionSafetyChecker`: a CLIP vision model with the embeddings of
concepts, each with its own threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from mmtune.errors import BaseModelError, first_line
from mmtune.system.hashing import hash_tensors
from mmtune.system.quiet import quiet
from mmtune.system.tensors import require_finite

IN_PIPELINE = ("safety_checker", "feature_extractor")  # its folders in a pipeline's folder
PREPROCESSOR = "preprocessor_config.json"


class SafetyChecker:
    """A safety checker that says of each image whether it is refused.

    Args:
        name: its hub id, its folder, or the folder of a pipeline that has one.
        device: device that computes.

    Raises:
        BaseModelError: it can't be found or loaded, or is another model.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        from diffusers.pipelines.stable_diffusion.safety_checker import (
            StableDiffusionSafetyChecker,
        )
        from transformers import CLIPImageProcessor

        self.device = device
        model, images = _places(name)
        try:
            with quiet():
                self._processor: Any = CLIPImageProcessor.from_pretrained(images)
                # Safetensors only: a pickled checkpoint can run code.
                loaded: Any = StableDiffusionSafetyChecker.from_pretrained(
                    model, use_safetensors=True, dtype=torch.float32, output_loading_info=True
                )
        except Exception as error:  # transformers, diffusers and the hub raise many kinds
            raise BaseModelError(
                f"task.image_filter: the safety checker {name} can't be loaded: "
                f"{first_line(error)}",
                f"correct the hub id or folder (it needs safetensors and {PREPROCESSOR}), connect "
                "to the hub, or leave the setting out",
            ) from error
        found, info = loaded
        # transformers would draw them at random.
        if missing := sorted(info["missing_keys"]):
            raise BaseModelError(
                f"task.image_filter: {name} is no safety checker: it has no {missing[0]}",
                "name the folder safety_checker of a Stable Diffusion pipeline, or a filter of "
                "your own: package.module:function",
            )
        weights = found.state_dict()
        require_finite(
            weights,
            f"the safety checker {name}",
            BaseModelError,
            "download or copy it again",
        )
        self._model = found.requires_grad_(False).eval().to(device)
        # A folder's own name alone: a comparison tells nothing of where it lies.
        shown = Path(name).name if Path(name).expanduser().is_dir() else name
        self.identity = f"{shown}, weights {hash_tensors(weights.items())[:12]}"

    def __call__(self, images: Sequence[Image]) -> list[bool]:
        """Say of each image whether it shows one of the checker's concepts."""
        pictures = [image.convert("RGB") for image in images]
        pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        # It blackens what it refuses in place, and returns it: nothing that is used here.
        black = [np.zeros(1) for _ in pictures]
        with quiet():
            _, refused = self._model(clip_input=pixels.to(self.device), images=black)
        return [bool(each) for each in refused]


def _places(name: str) -> tuple[str, str]:
    """Where the model and the settings of its image processor are."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name, name
    inner, beside = (folder / each for each in IN_PIPELINE)
    if not (folder / "config.json").is_file() and inner.is_dir():
        return str(inner), str(inner if (inner / PREPROCESSOR).is_file() else beside)
    sibling = folder.parent / IN_PIPELINE[1]
    own = (folder / PREPROCESSOR).is_file() or not (sibling / PREPROCESSOR).is_file()
    return str(folder), str(folder if own else sibling)
