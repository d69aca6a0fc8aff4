"""Adapters of Whisper: attach one for training, load several strictly, switch between them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.card import adapter_folder
from mmtune.adapters.foreign import read_config, read_shapes
from mmtune.adapters.foreign_layers import Pair
from mmtune.adapters.lora import attach_config
from mmtune.adapters.peft_configs import peft_config
from mmtune.adapters.start import (
    described,
    fit,
    put_layers,
    read_layers,
    require_pairs,
    require_rank,
)
from mmtune.adapters.switch import MARKER, PREFIX, WEIGHTS, AdapterSwitch
from mmtune.config import AdapterOptions, LoraOptions
from mmtune.errors import AdapterError, BaseModelError, ConfigError, did_you_mean
from mmtune.methods import METHODS, Method
from mmtune.speech.whisper.base import WhisperBase, resolve_base
from mmtune.speech.whisper.encoder import finish
from mmtune.speech.whisper.prefix import Prefix, load_prefix
from mmtune.system.stored import read_json_object

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
ATTENTIONS = ("self_attn", "encoder_attn")
# (IA)³ multiplies keys, values and what goes into the second layer after the attention (section 3.3
# of arXiv 2205.05638).
IA3_TARGETS, IA3_INPUTS = ("k_proj", "v_proj", "fc2"), ("fc2",)
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
    adapter: AdapterOptions | None = None,
) -> Any:
    """Add a fresh adapter to a base and return the `PeftModel`; the base's weights stay frozen.

    Args:
        base: is changed: peft puts the adapter into its layers.
        options: rank and targets of the adapter.
        seed: random seed of the adapter's initial weights.
        cut: first adapted encoder layer; None adapts only the decoder.
        parent: folder of the adapter that it begins as; None: it changes nothing yet.
        adapter: a method that changes layers; None: LoRA.

    Raises:
        AdapterError: the parent can't be loaded on the base.
        ConfigError: the settings leave out layers of the parent, or have no place for them.
    """
    adapter = adapter or AdapterOptions()
    count = len(base.model.model.encoder.layers)
    upper = range(count)[cut:] if cut is not None else ()
    start = None if parent is None else _read_start(base, parent, upper)
    usual = IA3_TARGETS if adapter.method == "ia3" else TARGETS
    names = options.targets or usual
    chosen = sorted(start) if start and not options.targets else targets(names, upper)
    options = options.model_copy(update={"targets": ()})
    config = peft_config(options, adapter, chosen, IA3_INPUTS)
    if start is None:
        return attach_config(base.model, config, seed, base.name)
    require_rank(options.rank, start.values())
    attached = attach_config(base.model, fit(config, start), seed, base.name)
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
    require_pairs(folder)
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
        self.prefix: Prefix | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The values of `peft_type` that can be loaded."""
        return (*super().kinds, METHODS["prefix"].peft_type)

    def _attach(self, inner: str, method: Method, given: Mapping[str, Any], folder: Path) -> None:
        if method.by_layer:
            super()._attach(inner, method, given, folder)
            return
        self.model = load_prefix(self.base, self.model, inner, given, folder)
        self.prefix = self.prefix or Prefix(self.base.model.model.decoder, self.model)

    @contextmanager
    def on(self, weights: Mapping[str, float]) -> Iterator[None]:
        """Within it, these adapters act with these weights, and no other; see `AdapterSwitch`.

        Raises:
            AdapterError: an adapter that isn't loaded; or several prefixes, or a prefix with
                another strength than 0 or 1.
        """
        acting = {name: weight for name, weight in weights.items() if weight != 0}
        known = acting.keys() <= self.inner.keys()
        if self.prefix is None or not acting or not known:
            with super().on(weights if self.prefix is None or not known else {}):
                yield
            return
        if len(acting) > 1 or set(acting.values()) != {1.0}:
            found = ", ".join(f"{name}={weight:g}" for name, weight in acting.items())
            raise AdapterError(
                f"{found}: prefixes can't be used together, nor at another strength than 1",
                "use one of them at strength 1: --adapter PATH",
            )
        [name] = acting
        self.model.set_adapter(self.inner[name])
        self.prefix.enabled = True
        try:
            yield
        finally:
            self.prefix.enabled = False

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
