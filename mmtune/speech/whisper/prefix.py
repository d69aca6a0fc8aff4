"""Prefix tuning of Whisper's decoder (arXiv 2101.00190): keys and values before the text.

peft wraps the decoder as a model of its own; its forward hands the prefix over as a cache of
earlier positions. `Prefix` does the same at each call of the decoder, so that training, decoding
with a cache and word times all see it. The text's positions begin after the prefix, as in peft.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.foreign import read_shapes
from mmtune.adapters.integrity import cure_of
from mmtune.adapters.lora import attach_config
from mmtune.adapters.switch import MARKER, WEIGHTS
from mmtune.errors import AdapterError
from mmtune.speech.whisper.base import WhisperBase
from mmtune.system.tensors import load_tensors

KEY = "prompt_embeddings"  # peft's name of the one tensor in the file
START = 0.02  # deviation of fresh keys and values: nearly nothing, and no two alike


class Prefix:
    """A decoder's prefix, which can be switched off; the decoder then is the base's, bit by bit.

    A fresh prefix takes attention from the text although it has learned nothing. So without
    gradients (in validation) it has no effect until its weights have changed.

    Args:
        decoder: a `WhisperDecoder`; it gets a hook.
        model: the `PeftModel` around it, whose active adapter is used.
        fresh: whether the prefix is about to be trained.
    """

    def __init__(self, decoder: Any, model: Any, *, fresh: bool = False) -> None:
        self.decoder, self.model, self.enabled = decoder, model, fresh
        self._first = self._weight().detach().clone() if fresh else None
        self._compared: tuple[int, bool] | None = None  # version of the weights; are they `_first`?
        decoder.mmtune_prefix = self
        decoder.register_forward_pre_hook(self._hand_over, with_kwargs=True)

    def _weight(self) -> torch.Tensor:
        weight: torch.Tensor = self.model.prompt_encoder[self.model.active_adapter].embedding.weight
        return weight

    @property
    def length(self) -> int:
        """Positions that the prefix takes now; 0 while it has no effect."""
        if not self.enabled or self._is_unchanged():
            return 0
        return int(self.model.active_peft_config.num_virtual_tokens)

    def _is_unchanged(self) -> bool:
        """Whether this is validation and the weights are the fresh ones; compared once a state."""
        if self._first is None:
            return False
        if torch.is_grad_enabled():
            # A step follows. Optimizers that write to `.data` leave the version as it is.
            self._compared = None
            return False
        weight = self._weight()
        if self._compared is None or self._compared[0] != weight._version:
            self._compared = weight._version, torch.equal(weight, self._first.to(weight))
        return self._compared[1]

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within it, the decoder is the base's."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    def _hand_over(self, decoder: Any, args: Any, given: dict[str, Any]) -> Any:
        length = self.length
        if not length:
            return None
        rows, cache = len(given["input_ids"]), given.get("past_key_values")
        given = {**given, "use_cache": True}
        if cache is None:
            given["past_key_values"] = self.model.get_prompt(rows)
        elif not cache.get_seq_length():
            prompt = self.model.get_prompt(rows).self_attention_cache
            for number, layer in enumerate(prompt.layers):
                cache.self_attention_cache.update(layer.keys, layer.values, number)
        if (mask := given.get("attention_mask")) is not None:
            ones = torch.ones(rows, length, dtype=mask.dtype, device=mask.device)
            given["attention_mask"] = torch.cat((ones, mask), dim=1)
        if given.get("position_ids") is not None:
            given["position_ids"] = given["position_ids"] + length
        return args, given


def prefix_length(decoder: Any) -> int:
    """Return how many positions of a decoder its prefix takes now; 0 without one."""
    prefix: Prefix | None = getattr(decoder, "mmtune_prefix", None)
    return 0 if prefix is None else prefix.length


def prefix_config(config: Any, tokens: int) -> Any:
    """Make peft's configuration.

    Args:
        config: a `WhisperConfig`. peft itself would take the encoder's layers and heads.
        tokens: length of the prefix.
    """
    from peft import PrefixTuningConfig

    return PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION",  # peft's forward for it fits a decoder with audio states
        num_virtual_tokens=tokens,
        token_dim=config.d_model,
        num_layers=config.decoder_layers,
        num_attention_heads=config.decoder_attention_heads,
        num_transformer_submodules=2,  # the decoder's cache also holds the audio's keys and values
    )


def attach_prefix(base: WhisperBase, tokens: int, seed: int) -> tuple[Any, Prefix]:
    """Add a fresh prefix to a base; return the `PeftModel` around the decoder, and the prefix."""
    decoder = base.model.model.decoder
    model = attach_config(decoder, prefix_config(base.model.config, tokens), seed, base.name)
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.mul_(START)
    return model, Prefix(decoder, model, fresh=True)


def load_prefix(
    base: WhisperBase, model: Any, inner: str, given: Mapping[str, Any], folder: Path
) -> Any:
    """Load a prefix strictly under peft's name `inner`; return the `PeftModel` that holds it.

    Args:
        model: the `PeftModel` of earlier prefixes; None: there is none.
        given: the adapter's adapter_config.json.

    Raises:
        AdapterError: the file holds something else than one prefix for this decoder, or its config
            contradicts it.
    """
    from peft import PeftModel
    from peft.utils.save_and_load import set_peft_model_state_dict

    path, config = folder / WEIGHTS, base.model.config
    shapes = read_shapes(path)
    width = config.decoder_layers * 2 * config.d_model
    shape = shapes.get(KEY, ())
    if set(shapes) != {KEY} or len(shape) != 2 or shape[1] != width:
        found = ", ".join(f"{key} {size}" for key, size in list(shapes.items())[:3])
        raise AdapterError(
            f"{path}: the prefix doesn't fit the base {base.name!r}: it holds {found}, not "
            f"{KEY} of {width} columns",
            "load it on the base that it was trained on",
        )
    tokens = shape[0]
    if given.get("prefix_projection") or given.get("num_virtual_tokens") != tokens:
        raise AdapterError(
            f"{folder / MARKER}: num_virtual_tokens is {given.get('num_virtual_tokens')!r} and "
            f"prefix_projection {given.get('prefix_projection')!r}, but the file holds "
            f"{tokens} positions without a projection",
            "restore the folder",
        )
    if not 1 <= tokens < config.max_target_positions:
        raise AdapterError(
            f"{path}: a prefix of {tokens} positions leaves none of the base's "
            f"{config.max_target_positions} for text",
            "train a shorter prefix: adapter.tokens",
        )
    own = prefix_config(config, tokens)
    own.inference_mode = True
    weights = load_tensors(path, AdapterError, cure_of(folder))
    if model is None:
        model = PeftModel(base.model.model.decoder, own, adapter_name=inner)
    else:
        model.add_adapter(inner, own)
    set_peft_model_state_dict(model, weights, adapter_name=inner)
    return model
