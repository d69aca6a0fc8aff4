"""Merge an adapter into its base's weights, which every engine except mmtune's own needs."""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import AdapterError
from mmtune.speech.whisper.base import WhisperBase, load_base
from mmtune.speech.whisper.decoder_lora import load_adapters

_NAME = "merged"


def merge(base: str, adapter: Path, scale: float = 1.0) -> WhisperBase:
    """Merge an adapter into its base: float32 on the CPU, without any module of peft.

    Args:
        base: as for `load_base`.
        adapter: a run folder or its adapter/; loaded strictly, as for decoding.
        scale: factor on the adapter's strength.

    Raises:
        BaseModelError: the base can't be used.
        AdapterError: the adapter is damaged, was made for another base, has no effect, has no form
            as weights (a prefix), or gives weights that aren't finite.
    """
    loaded = load_base(base)
    switch = load_adapters(loaded, {_NAME: adapter})
    if switch.method is not None and not switch.method.by_layer:
        raise AdapterError(
            f"{adapter} is trained by {switch.method.title}: it changes what the decoder attends "
            "to and no weights, so it can't be merged into them",
            "use it in mmtune (mmtune transcribe --adapter) or in peft, or train another "
            "adapter.method, such as lora, to export it",
        )
    with switch.on({_NAME: scale}):
        try:
            loaded.model = switch.model.merge_and_unload(safe_merge=True)
        except ValueError as error:  # peft's safe merge: NaN or infinite weights
            raise AdapterError(
                f"{adapter} can't be merged at scale {scale:g}: {error}",
                "use a smaller --scale, or train the adapter again",
            ) from None
    loaded.model.eval().requires_grad_(False)
    return loaded
