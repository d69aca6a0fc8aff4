"""LoRA on Whisper: attached for training, loaded strictly, switched for each request."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.card import adapter_folder
from mmtune.adapters.lora import attach_lora
from mmtune.adapters.switch import MARKER, AdapterSwitch
from mmtune.config import LoraOptions
from mmtune.errors import AdapterError, ConfigError
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.encoder import finish

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
ATTENTIONS = ("self_attn", "encoder_attn")
KNOWN = (*TARGETS, *(f"{kind}.{name}" for kind in ATTENTIONS for name in TARGETS[:4]))


def targets(names: Sequence[str] = (), encoder_layers: Sequence[int] = ()) -> str:
    """The regular expression over module names that adapts these modules of Whisper's layers.

    Args:
        names: of `TARGETS`, or of one kind of attention alone ("encoder_attn.q_proj"); empty
            means all.
        encoder_layers: the adapted layers of the encoder; those of the decoder always are.

    Raises:
        ConfigError: a name that the layers don't have, or none that the encoder's have.
    """
    chosen = tuple(names) or TARGETS
    for name in chosen:
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"lora.targets: {name!r} is no module of Whisper's layers",
                f"{hint}use some of {', '.join(TARGETS)}, or self_attn.NAME, encoder_attn.NAME",
            )
    if encoder_layers and all(name.startswith("encoder_attn.") for name in chosen):
        raise ConfigError(
            f"task.encoder_layers: lora.targets ({', '.join(chosen)}) are in the decoder alone",
            "set task.encoder_layers to 0, or add a target such as self_attn.q_proj",
        )
    layers = r"decoder\.layers\.\d+"
    if encoder_layers:
        layers = rf"({layers}|encoder\.layers\.({'|'.join(map(str, encoder_layers))}))"
    found = "|".join(re.escape(n) if "." in n else rf"((self|encoder)_attn\.)?{n}" for n in chosen)
    return rf"model\.{layers}\.({found})"


def adapted_from(folder: Path) -> int | None:
    """The lowest layer of the encoder that an adapter changes; None: the decoder's alone.

    Raises:
        AdapterError: the folder can't be read, or it adapts what lies below all layers.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder} can't be read: {error}", "restore the folder") from None
    found = [re.search(r"\.encoder\.layers\.(\d+)\.", name) for name in names]
    for name, layer in zip(names, found, strict=True):
        if layer is None and ".encoder." in name:
            raise AdapterError(
                f"{folder} adapts {name!r}, below the encoder's layers",
                "train it on layers of encoder and decoder, as mmtune's recipes do",
            )
    return min((int(layer[1]) for layer in found if layer), default=None)


def attach(base: WhisperBase, options: LoraOptions, seed: int, cut: int | None = None) -> Any:
    """A `PeftModel` with a fresh adapter; the base's own weights stay frozen.

    Args:
        base: is changed: peft puts the adapter into its layers.
        seed: of the adapter's initial weights.
        cut: the encoder's layers from this one on are adapted too; None: the decoder's alone.
    """
    count = len(base.model.model.encoder.layers)
    upper = range(count)[cut:] if cut is not None else ()
    options, chosen = options.model_copy(update={"targets": ()}), targets(options.targets, upper)
    return attach_lora(base.model, options, chosen, seed, base.name)


def load_adapters(base: WhisperBase, adapters: Mapping[str, Path]) -> Switch:
    """Put adapters into a base, each checked to fit it and to change its output.

    Args:
        base: is changed: peft puts the adapters into its layers. All are off at first.
        adapters: folders by the names that requests use.

    Raises:
        AdapterError: damaged, made for another base, or without effect.
    """
    switch = Switch(base)
    for name, path in adapters.items():
        switch.load(name, adapter_folder(path, MARKER))
    return switch


class Switch(AdapterSwitch):
    """A Whisper's adapters, of which any weighted set can be on for a while."""

    def __init__(self, base: WhisperBase) -> None:
        super().__init__(base.model, base.name, base.fingerprint, self._answer)
        self.base = base

    def _answer(self) -> torch.Tensor:
        """Logits [1, 3, vocabulary] for eight made-up frames through all layers."""
        whisper, config = self.base.model, self.base.model.config
        weight = whisper.proj_out.weight
        hidden = torch.zeros(1, 8, config.d_model, dtype=weight.dtype, device=weight.device)
        hidden[0, :, ::2] = 1.0
        hidden = finish(whisper.model.encoder, hidden, 0)
        ids = torch.tensor([[self.base.ids["startoftranscript"], 1, 2]], device=weight.device)
        output = whisper.model.decoder(input_ids=ids, encoder_hidden_states=hidden, use_cache=False)
        logits: torch.Tensor = whisper.proj_out(output.last_hidden_state)
        return logits
