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
from mmtune.adapters.layer_strength import at_strength
from mmtune.adapters.lora import require_effect, require_match
from mmtune.adapters.method_files import KINDS, read_settings
from mmtune.errors import AdapterError
from mmtune.methods import Method, method_of_peft
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
        self.method: Method | None = None  # of the adapters that are loaded

    def load(self, name: str, folder: Path) -> None:
        """Add one adapter, off at first, checked to fit the base and to change its output.

        Args:
            name: that requests use; any text.
            folder: a PEFT folder, with mmtune's card or without.

        Raises:
            AdapterError: damaged, too large for the base, made for another base, without effect,
                or with a regular expression or a feature that mmtune doesn't load.
        """
        check_adapter(folder)
        check_base(folder, self.name, self.fingerprint)
        inner = f"adapter{len(self.inner)}"
        given = read_config(folder / MARKER, self.kinds)
        method = method_of_peft(str(given["peft_type"]), given.get("use_dora") is True)
        assert method is not None
        self._require_alike(method, folder)
        self._attach(inner, method, given, folder)
        self.inner[name], self.method = inner, method
        self.model.eval().requires_grad_(False)
        with torch.no_grad():
            with self.on({}):
                off = self.answer()
            with self.on({name: 1.0}):
                require_effect(off, self.answer(), folder)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The values of `peft_type` that can be loaded."""
        return KINDS

    def _require_alike(self, method: Method, folder: Path) -> None:
        if self.method is not None and self.method.peft_type != method.peft_type:
            raise AdapterError(
                f"{folder} is trained by {method.title}, but another adapter is loaded that is "
                f"trained by {self.method.title}: peft can't use the two side by side",
                "use adapters of one method, or each alone",
            )

    def _attach(self, inner: str, method: Method, given: Mapping[str, Any], folder: Path) -> None:
        """Put an adapter into the layers under peft's name `inner`."""
        from peft import LoraConfig, PeftModel
        from peft.utils.save_and_load import set_peft_model_state_dict

        path = folder / WEIGHTS
        shapes = {key.removeprefix(PREFIX): shape for key, shape in read_shapes(path).items()}
        modules = dict(self.base_model.named_modules())
        if method.peft_type == "LORA":
            settings = lora_settings(shapes, given, folder / MARKER)
            require_bounded(shapes, modules, path, self.name)
            config: Any = LoraConfig(**settings, inference_mode=True)
        else:
            config = read_settings(method, shapes, given, modules, folder / MARKER)
        weights = load_tensors(path, AdapterError, cure_of(folder))
        try:
            if self.model is None:
                self.model = PeftModel(self.base_model, config, adapter_name=inner)
            else:
                self.model.add_adapter(inner, config)
            result = set_peft_model_state_dict(self.model, weights, adapter_name=inner)
        except (ValueError, RuntimeError, KeyError) as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise AdapterError(
                f"{folder}: the adapter doesn't fit the base {self.name!r}: {first}",
                "load it on the base that it was trained on",
            ) from None
        lost = [key for key in result.missing_keys if f".{inner}." in f"{key}."]
        require_match(lost, result.unexpected_keys, folder, self.name)

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
        if self.model is None or not (self.method is None or self.method.by_layer):
            yield
            return
        try:
            if weights:
                self.model.base_model.set_adapter([self.inner[name] for name in weights])
                self.model.base_model.enable_adapter_layers()
            else:
                self.model.base_model.disable_adapter_layers()
            with at_strength(self.base_model, {self.inner[n]: w for n, w in weights.items()}):
                yield
        finally:
            self.model.base_model.disable_adapter_layers()

    def unload(self) -> None:
        """Take all adapters out again; the model is then as it was before."""
        if self.model is not None:
            self.model.unload()
        self.model, self.inner, self.method = None, {}, None
