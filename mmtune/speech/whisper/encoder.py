"""Whisper's encoder in two parts: below the first adapted layer, and from there on.

transformers' `WhisperEncoder.forward` takes neither another length than 30 s nor a layer to start
at, so the layers run in a loop of our own (the same computation; a test compares them).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmtune.errors import ConfigError


def cut_of(encoder: Any, adapted: int | str) -> int | None:
    """How many of the encoder's layers lie below the first adapted one.

    Args:
        encoder: a `WhisperEncoder`.
        adapted: how many of its top layers are adapted, or "all".

    Returns:
        None where no layer is adapted: then the whole encoder lies below.

    Raises:
        ConfigError: the encoder has fewer layers.
    """
    layers = len(encoder.layers)
    top = layers if adapted == "all" else int(adapted)
    if top > layers:
        raise ConfigError(
            f"task.encoder_layers: {top}, but the base's encoder has {layers} layers",
            f"use 0 to {layers}, or all",
        )
    return layers - top if top else None


def encode_mel(encoder: Any, mel: Tensor, cut: int | None = None) -> Tensor:
    """A window of any length, with the position embeddings cut to it.

    Args:
        encoder: a `WhisperEncoder` in eval mode.
        mel: [batch, mels, frames], 100 frames a second.
        cut: run this many layers, without the last norm; None: the whole encoder.

    Returns:
        [batch, frames / 2, width].
    """
    hidden = nn.functional.gelu(encoder.conv1(mel))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers[:cut]:
        hidden = layer(hidden, None)
    result: Tensor = hidden if cut is not None else encoder.layer_norm(hidden)
    return result


def finish(encoder: Any, hidden: Tensor, cut: int | None) -> Tensor:
    """The rest of `encode_mel`, with whatever adapter is active in the layers.

    Args:
        hidden: [batch, frames, width] of `encode_mel` with the same `cut`.

    Returns:
        The encoder's output, [batch, frames, width]; `hidden` itself where `cut` is None.
    """
    if cut is None:
        return hidden
    for layer in encoder.layers[cut:]:
        hidden = layer(hidden, None)
    result: Tensor = encoder.layer_norm(hidden)
    return result
