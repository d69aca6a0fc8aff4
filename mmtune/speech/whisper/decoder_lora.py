"""LoRA on Whisper: attached for training, loaded strictly, switched for each request."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.card import CARD_FILE, adapter_folder, read_card
from mmtune.adapters.lora import lora_config, require_effect, require_match
from mmtune.config import LoraOptions
from mmtune.errors import AdapterError, ConfigError, did_you_mean
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.encoder import finish

MARKER = "adapter_config.json"  # tells a PEFT folder, which need not have a card
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
            raise ConfigError(
                f"lora.targets: {name!r} is no module of Whisper's layers",
                did_you_mean(name, KNOWN),
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
    from peft import get_peft_model

    count = len(base.model.model.encoder.layers)
    upper = range(count)[cut:] if cut is not None else ()
    config = lora_config(
        options.model_copy(update={"targets": ()}), targets(options.targets, upper)
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft records the loaded folder, which for a starter exists on one machine only, and warns.
        warnings.filterwarnings("ignore", "The PEFT config's `base_model_name_or_path`")
        torch.manual_seed(seed)
        model = get_peft_model(base.model, config)
    model.peft_config["default"].base_model_name_or_path = base.name
    return model


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


class Switch:
    """A base's adapters, of which any weighted set can be on for a while."""

    def __init__(self, base: WhisperBase) -> None:
        self.base = base
        self.model: Any = None  # PeftModel once there is an adapter
        self.inner: dict[str, str] = {}  # peft's names: a user's may hold dots, which torch refuses

    def load(self, name: str, folder: Path) -> None:
        """Add one adapter; see `load_adapters`."""
        from peft import PeftConfig, PeftModel
        from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

        if (folder / CARD_FILE).exists():
            card = read_card(folder)
            if card.base_hash and card.base_hash != self.base.fingerprint:
                raise AdapterError(
                    f"{folder} was trained on {card.base!r} ({card.base_hash[:12]}), not on "
                    f"{self.base.name!r} ({self.base.fingerprint[:12]})",
                    f"use --base {card.base}, or train it again on this base",
                )
        inner = f"adapter{len(self.inner)}"
        fit = f"the adapter doesn't fit the base {self.base.name!r}"
        cure = "load it on the base that it was trained on"
        try:
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            weights = load_peft_weights(str(folder), device="cpu")
        except Exception as error:  # json, safetensors and peft raise types of their own
            raise AdapterError(f"{folder} can't be read: {error}", "restore the folder") from None
        try:
            if self.model is None:
                self.model = PeftModel(self.base.model, config, adapter_name=inner)
            else:
                self.model.add_adapter(inner, config)
            result = set_peft_model_state_dict(self.model, weights, adapter_name=inner)
        except (ValueError, RuntimeError, KeyError) as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise AdapterError(f"{folder}: {fit}: {first}", cure) from None
        lost = [key for key in result.missing_keys if f".{inner}." in key]
        require_match(lost, result.unexpected_keys, folder, self.base.name)
        self.inner[name] = inner
        self.model.eval().requires_grad_(False)
        with self.on({}):
            off = self._answer()
        with self.on({name: 1.0}):
            require_effect(off, self._answer(), folder)

    @torch.no_grad()
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

    @contextmanager
    def on(self, weights: Mapping[str, float]) -> Iterator[None]:
        """Within it, these adapters act with these weights, and no other; afterwards none does.

        Restored after an exception too: peft's own state would answer the next request with
        whatever was left active (peft#3475).

        Raises:
            AdapterError: an adapter that isn't loaded.
        """
        unknown = [name for name in weights if name not in self.inner]
        if unknown:
            raise AdapterError(
                f"no adapter {unknown[0]!r} is loaded",
                "loaded: " + (", ".join(self.inner) or "none"),
            )
        if self.model is None:
            yield
            return
        layers = self._layers() if weights else []
        saved = [dict(layer.scaling) for layer in layers]
        try:
            if weights:
                names = [self.inner[name] for name in weights]
                self.model.base_model.set_adapter(names)
                self.model.base_model.enable_adapter_layers()
                for layer in layers:
                    for name, weight in weights.items():
                        if self.inner[name] in layer.scaling:
                            layer.scaling[self.inner[name]] *= weight
            else:
                self.model.base_model.disable_adapter_layers()
            yield
        finally:
            for layer, scaling in zip(layers, saved, strict=True):
                layer.scaling.update(scaling)
            self.model.base_model.disable_adapter_layers()

    def _layers(self) -> list[Any]:
        from peft.tuners.lora import LoraLayer

        return [m for m in self.base.model.modules() if isinstance(m, LoraLayer)]
