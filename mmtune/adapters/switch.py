"""PEFT adapters on one base: loaded strictly, and switched for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtune.adapters.foreign import lora_settings, read_config, read_shapes, require_bounded
from mmtune.adapters.integrity import PEFT_CONFIG, check_adapter, check_base, cure_of
from mmtune.adapters.lora import require_effect, require_match
from mmtune.errors import AdapterError
from mmtune.system.tensors import load_tensors

MARKER = PEFT_CONFIG  # tells a PEFT folder, which need not have a card
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # of peft's keys, before a layer's name


class AdapterSwitch:
    """A base's adapters, of which any weighted set can be on for a while.

    Args:
        model: of transformers; it is changed: peft puts the adapters into its layers.
        name: of the base, for errors.
        fingerprint: hash of the base's weights, which the adapters' cards name.
        answer: any output of the model, by which an adapter without effect is found.
    """

    def __init__(
        self, model: Any, name: str, fingerprint: str, answer: Callable[[], Tensor]
    ) -> None:
        self.base_model, self.name, self.fingerprint = model, name, fingerprint
        self.answer = answer
        self.model: Any = None  # PeftModel once there is an adapter
        self.inner: dict[str, str] = {}  # peft's names: a user's may hold dots, which torch refuses

    def load(self, name: str, folder: Path) -> None:
        """Add one adapter, off at first, checked to fit the base and to change its output.

        Args:
            name: that requests use; any text.
            folder: a PEFT folder, with mmtune's card or without.

        Raises:
            AdapterError: damaged, too large for the base, made for another base, without effect,
                or with a regular expression or a feature that mmtune doesn't load.
        """
        from peft import LoraConfig, PeftModel
        from peft.utils.save_and_load import set_peft_model_state_dict

        check_adapter(folder)
        check_base(folder, self.name, self.fingerprint)
        inner = f"adapter{len(self.inner)}"
        fit = f"the adapter doesn't fit the base {self.name!r}"
        cure = "load it on the base that it was trained on"
        path = folder / WEIGHTS
        given = read_config(folder / MARKER)
        shapes = {key.removeprefix(PREFIX): shape for key, shape in read_shapes(path).items()}
        settings = lora_settings(shapes, given, folder / MARKER)
        require_bounded(shapes, dict(self.base_model.named_modules()), path, self.name)
        config = LoraConfig(**settings, inference_mode=True)
        weights = load_tensors(path, AdapterError, cure_of(folder))
        try:
            if self.model is None:
                self.model = PeftModel(self.base_model, config, adapter_name=inner)
            else:
                self.model.add_adapter(inner, config)
            result = set_peft_model_state_dict(self.model, weights, adapter_name=inner)
        except (ValueError, RuntimeError, KeyError) as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise AdapterError(f"{folder}: {fit}: {first}", cure) from None
        lost = [key for key in result.missing_keys if f".{inner}." in key]
        require_match(lost, result.unexpected_keys, folder, self.name)
        self.inner[name] = inner
        self.model.eval().requires_grad_(False)
        with torch.no_grad():
            with self.on({}):
                off = self.answer()
            with self.on({name: 1.0}):
                require_effect(off, self.answer(), folder)

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

    def unload(self) -> None:
        """Take all adapters out again; the model is then as it was before."""
        if self.model is not None:
            self.model.unload()
        self.model, self.inner = None, {}

    def _layers(self) -> list[Any]:
        from peft.tuners.lora import LoraLayer

        return [m for m in self.base_model.modules() if isinstance(m, LoraLayer)]
