"""Run Whisper's encoder in two parts: the layers below the first adapted one, and the others.

transformers' `WhisperEncoder.forward` accepts neither other lengths than 30 s nor a layer to start
at. So this module runs the layers in its own loop (the same computation; a test compares them).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmtune.errors import ConfigError


def cut_of(encoder: Any, adapted: int | str) -> int | None:
    """Return the number of encoder layers below the first adapted one.

    Args:
        encoder: a `WhisperEncoder`.
        adapted: number of its top layers that are adapted, or "all".

    Returns:
        None if no layer is adapted.

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
    """Encode a window of any length, with the position embeddings cut to it.

    Args:
        encoder: a `WhisperEncoder` in eval mode.
        mel: [batch, mels, frames], 100 frames a second.
        cut: run this number of layers, without the last norm; None: the whole encoder.

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
    """Run the layers that `encode_mel` left out, with the adapter that is active in them.

    Args:
        encoder: a `WhisperEncoder`.
        hidden: [batch, frames, width] of `encode_mel` with the same `cut`.
        cut: number of layers that have run; None: all.

    Returns:
        The encoder's output, [batch, frames, width]; `hidden` itself if `cut` is None.
    """
    if cut is None:
        return hidden
    for layer in encoder.layers[cut:]:
        hidden = layer(hidden, None)
    result: Tensor = encoder.layer_norm(hidden)
    return result
