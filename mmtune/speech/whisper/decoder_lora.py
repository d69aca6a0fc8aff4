"""LoRA on Whisper: attach an adapter for training, load adapters strictly, switch between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.card import adapter_folder
from mmtune.adapters.foreign import read_config, read_shapes
from mmtune.adapters.foreign_layers import Pair
from mmtune.adapters.lora import attach_lora
from mmtune.adapters.start import described, fit, put_layers, read_layers, require_rank
from mmtune.adapters.switch import MARKER, PREFIX, WEIGHTS, AdapterSwitch
from mmtune.config import LoraOptions
from mmtune.errors import AdapterError, BaseModelError, ConfigError, did_you_mean
from mmtune.speech.whisper.base import WhisperBase, resolve_base
from mmtune.speech.whisper.encoder import finish
from mmtune.system.stored import read_json_object

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
ATTENTIONS = ("self_attn", "encoder_attn")
KNOWN = (*TARGETS, *(f"{kind}.{name}" for kind in ATTENTIONS for name in TARGETS[:4]))


def targets(names: Sequence[str] = (), encoder_layers: Sequence[int] = ()) -> str:
    """Make the regular expression that matches the names of the modules to adapt.

    Args:
        names: some of `TARGETS`, or a target of one kind of attention ("encoder_attn.q_proj");
            empty means all.
        encoder_layers: the adapted layers of the encoder; all decoder layers are adapted.

    Raises:
        ConfigError: no layer has such a module, or the encoder's layers have none of them.
    """
    chosen = tuple(names) or TARGETS
    for name in chosen:
        if name not in KNOWN:
            raise ConfigError(
                f"lora.targets: Whisper's layers have no module {name!r}",
                did_you_mean(name, KNOWN),
            )
    if encoder_layers and all(name.startswith("encoder_attn.") for name in chosen):
        raise ConfigError(
            f"task.encoder_layers: the encoder has none of lora.targets ({', '.join(chosen)})",
            "set task.encoder_layers to 0, or add a target such as self_attn.q_proj",
        )
    layers = r"decoder\.layers\.\d+"
    if encoder_layers:
        layers = rf"({layers}|encoder\.layers\.({'|'.join(map(str, encoder_layers))}))"
    found = "|".join(re.escape(n) if "." in n else rf"((self|encoder)_attn\.)?{n}" for n in chosen)
    return rf"model\.{layers}\.({found})"


def adapted_from(folder: Path) -> int | None:
    """Return the lowest encoder layer that an adapter changes; None if it changes only the decoder.

    Raises:
        AdapterError: the folder can't be read, or the adapter changes modules below all layers.
    """
    names = list(read_shapes(folder / WEIGHTS))
    found = [re.search(r"\.encoder\.layers\.(\d+)\.", name) for name in names]
    for name, layer in zip(names, found, strict=True):
        if layer is None and ".encoder." in name:
            raise AdapterError(
                f"{folder} adapts {name!r}, below the encoder's layers",
                "train it on layers of encoder and decoder, as mmtune's recipes do",
            )
    return min((int(layer[1]) for layer in found if layer), default=None)


def attach(
    base: WhisperBase,
    options: LoraOptions,
    seed: int,
    cut: int | None = None,
    parent: Path | None = None,
) -> Any:
    """Add a fresh adapter to a base and return the `PeftModel`; the base's weights stay frozen.

    Args:
        base: is changed: peft puts the adapter into its layers.
        options: rank, targets and kind of the adapter.
        seed: random seed of the adapter's initial weights.
        cut: first adapted encoder layer; None adapts only the decoder.
        parent: folder of the adapter that it begins as; None: it changes nothing yet.

    Raises:
        AdapterError: the parent can't be loaded on the base.
        ConfigError: the settings leave out layers of the parent, or have no place for them.
    """
    count = len(base.model.model.encoder.layers)
    upper = range(count)[cut:] if cut is not None else ()
    start = None if parent is None else _read_start(base, parent, upper)
    chosen = sorted(start) if start and not options.targets else targets(options.targets, upper)
    options = options.model_copy(update={"targets": ()})
    if start is None:
        return attach_lora(base.model, options, chosen, seed, base.name)
    require_rank(options.rank, start.values())
    attached = attach_lora(base.model, options, chosen, seed, base.name, lambda c: fit(c, start))
    put_layers(base.model, start)
    return attached


def _read_start(base: WhisperBase, parent: Path, upper: Sequence[int]) -> dict[str, Pair]:
    """Load an adapter strictly, read its layers, and take it out again."""
    adapters = load_adapters(base, {"parent": parent})
    layers = read_layers(base.model, adapters.inner["parent"])
    adapters.unload()
    lowest = adapted_from(parent)
    if lowest is not None and lowest not in upper:
        count = len(base.model.model.encoder.layers)
        raise ConfigError(
            f"task.encoder_layers = {len(upper)}: the adapter of --init changes the encoder's "
            f"layers from {lowest} on",
            f"leave --encoder_layers out, or give {count - lowest} or more",
        )
    return layers


def settings_of_adapter(folder: Path, base: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """Read rank, alpha, kind and adapted layers of a PEFT folder; see `described`.

    Raises:
        AdapterError: the folder can't be read, or holds more than LoRA pairs of Whisper's layers.
        BaseModelError: the base can't be found.
    """
    shapes = {k.removeprefix(PREFIX): shape for k, shape in read_shapes(folder / WEIGHTS).items()}
    own = described([(shapes, read_config(folder / MARKER), folder / MARKER)], beside)
    return own | {"task.encoder_layers": _adapted_layers(adapted_from(folder), base)}


def _adapted_layers(lowest: int | None, base: str) -> int | str:
    """`task.encoder_layers` of an adapter, from the lowest layer of the encoder that it changes."""
    if lowest is None:
        return 0
    if lowest == 0:
        return "all"
    place = resolve_base(base) / "config.json"
    count: int = read_json_object(place, "restore the base", BaseModelError)["encoder_layers"]
    return count - lowest


def load_adapters(base: WhisperBase, adapters: Mapping[str, Path]) -> Switch:
    """Load adapters into a base; check that each fits the base and changes its output.

    Args:
        base: is changed: peft puts the adapters into its layers. All are off at first.
        adapters: folders by the names that requests use.

    Raises:
        AdapterError: an adapter is damaged, was made for another base, or has no effect.
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
        """Compute logits [1, 3, vocabulary] of eight artificial frames, through all layers."""
        whisper, config = self.base.model, self.base.model.config
        weight = whisper.proj_out.weight
        hidden = torch.zeros(1, 8, config.d_model, dtype=weight.dtype, device=weight.device)
        hidden[0, :, ::2] = 1.0
        hidden = finish(whisper.model.encoder, hidden, 0)
        ids = torch.tensor([[self.base.ids["startoftranscript"], 1, 2]], device=weight.device)
        output = whisper.model.decoder(input_ids=ids, encoder_hidden_states=hidden, use_cache=False)
        logits: torch.Tensor = whisper.proj_out(output.last_hidden_state)
        return logits
