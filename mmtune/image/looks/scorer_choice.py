"""Which model judges whether images show their captions, where `task.clip_model` names none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.errors import BaseModelError
from mmtune.image.looks.backbone import MATCH, load_scorer
from mmtune.image.looks.embedding import Scorer
from mmtune.image.source import STARTERS, resolve_base

if TYPE_CHECKING:
    import torch

NO_SCORER = "none"  # value of task.clip_model that switches the judging off
# OpenCLIP's ViT-B/32, trained on LAION-2B: safetensors, licence MIT.
DEFAULT_CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"


@dataclass(frozen=True)
class ScorerChoice:
    """A scorer to load, or the reason why there is none.

    Attributes:
        name: `starter:match`, or a CLIP or SigLIP; None: no scorer can be used.
        named: whether the user named it. Then it is an error if it can't be loaded.
        reason: why there is no scorer; empty if `name` is one.
    """

    name: str | None
    named: bool = False
    reason: str = ""

    def load(self, device: torch.device) -> tuple[Scorer | None, str]:
        """Load the scorer; if there is none, give the reason instead.

        Raises:
            BaseModelError: the user named it, and it can't be loaded.
        """
        if self.name is None:
            return None, self.reason
        try:
            return load_scorer(self.name, device), ""
        except BaseModelError as error:
            if self.named:
                raise
            return None, f"{error}; or name another scorer: --clip_model"


def choose_scorer(clip_model: str | None, base: str) -> ScorerChoice:
    """Choose the model that judges images' captions.

    Args:
        clip_model: `task.clip_model`. None: `starter:match` for the icon starter, else
            `DEFAULT_CLIP`. It is downloaded for a base of the hub. For a base in a folder or
            file it is used if it is on this machine.
        base: the base's name: a hub id, a folder, a file or a starter.
    """
    if clip_model == NO_SCORER:
        return ScorerChoice(None, reason=f"task.clip_model is {NO_SCORER}")
    if clip_model is not None:
        return ScorerChoice(clip_model, named=True)
    if base in STARTERS:
        return ScorerChoice(MATCH)
    if not isinstance(resolve_base(base), str) and not _is_here(DEFAULT_CLIP):
        return ScorerChoice(
            None,
            reason=f"the base is a folder or file, and the default scorer {DEFAULT_CLIP} is not on "
            f"this machine; name a scorer by --clip_model, such as {DEFAULT_CLIP}",
        )
    return ScorerChoice(DEFAULT_CLIP)


def _is_here(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "config.json"), str)
