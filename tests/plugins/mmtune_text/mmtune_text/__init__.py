"""Instruction pairs for small language models: a third modality, outside mmtune."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mmtune.config import RunConfig, Section
from mmtune.data.rows import Row
from mmtune.modality import Modality

Words = Annotated[str, Field(min_length=1)]


class TextRow(Row):
    """An instruction and the answer to it."""

    prompt: Words
    answer: Words

    @property
    def reference(self) -> str:
        """The answer."""
        return self.answer


class TextOptions(Section):
    """The section `task` of a recipe."""

    prompt_weight: Annotated[float, Field(ge=0, le=1)] = 0.0  # of the prompts' tokens in the loss


class TextModality(Modality):
    """Torch is imported only where a model is needed."""

    name = "text"
    row = TextRow
    options = TextOptions
    metrics = ("loss", "exact match")

    def task(self, config: RunConfig, dataset: Any, cache: Any) -> Any:
        """LoRA on all projections of the model's layers."""
        from mmtune_text.model import TextTask

        return TextTask(config)

    def predictor(self, base: str, adapters: Mapping[str, Path], features: Any = None) -> Any:
        """Greedy answers."""
        from mmtune_text.model import TextPredictor

        return TextPredictor(base, adapters)


MODALITY = TextModality()
