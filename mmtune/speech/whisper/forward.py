"""Run the decoder for training without computing keys and values of cross-attention.

An utterance has a dozen tokens but hundreds of encoder frames. Most of a decoder-only step would go
into projecting the frames to keys and values in every layer. Matrix products are associative:
(q Wk') h' = q (h Wk)' and (p h) Wv' = p (h Wv'), so the few tokens can be projected instead
("weight absorption", DeepSeek-V2, arXiv 2405.04434, section 2.1). With n tokens, H heads and width
d this costs n H / d of the usual way: a fifth for a sentence on tiny.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmtune.speech.whisper.prefix import prefix_length


def decode_all(decoder: Any, inputs: Tensor, hidden: Tensor) -> Tensor:
    """Compute the last hidden states; equal to `WhisperDecoder.forward` up to rounding.

    Args:
        decoder: a `WhisperDecoder`, with or without one adapter.
        inputs: ids, [rows, length], padded on the right.
        hidden: encoder outputs, [rows, frames, width].

    Returns:
        [rows, length, width].
    """
    if not can_absorb(decoder, inputs.shape[1]):
        output = decoder(input_ids=inputs, encoder_hidden_states=hidden, use_cache=False)
        usual: Tensor = output.last_hidden_state
        return usual
    x = decoder.embed_tokens(inputs) + decoder.embed_positions.weight[: inputs.shape[1]]
    for layer in decoder.layers:
        if layer.gradient_checkpointing and layer.training:
            x = checkpoint(_absorbed, layer, x, hidden, use_reentrant=False)
        else:
            x = _absorbed(layer, x, hidden)
    result: Tensor = decoder.layer_norm(x)
    return result


def _absorbed(layer: Any, x: Tensor, hidden: Tensor) -> Tensor:
    # Without a mask, self-attention is causal, so no token attends to the padding after it.
    x = x + layer.self_attn(layer.self_attn_layer_norm(x), attention_mask=None)[0]
    x = x + cross_attention(layer.encoder_attn, layer.encoder_attn_layer_norm(x), hidden)
    y = layer.activation_fn(layer.fc1(layer.final_layer_norm(x)))
    result: Tensor = x + layer.fc2(y)
    return result


def can_absorb(decoder: Any, length: int) -> bool:
    """Whether absorption is exact and cheaper: plain LoRA or none, fewer tokens than head width."""
    config = decoder.config
    dropouts = (config.dropout, config.attention_dropout, config.activation_dropout)
    if any(dropouts) or config.decoder_layerdrop:
        return False
    attention = decoder.layers[0].encoder_attn
    if length >= attention.head_dim or prefix_length(decoder):
        return False
    projections = [p for layer in decoder.layers for p in _projections(layer.encoder_attn)]
    return not any(_is_other(p) or _has_dropout(p) or _has_dora(p) for p in projections)


def _projections(attention: Any) -> tuple[Any, Any]:
    return attention.k_proj, attention.v_proj


def _is_other(layer: Any) -> bool:
    # A layer of another method than LoRA.
    return hasattr(layer, "base_layer") and not hasattr(layer, "lora_A")


def _has_dropout(layer: Any) -> bool:
    drops = getattr(layer, "lora_dropout", {})
    return any(getattr(drop, "p", 0.0) for drop in drops.values()) if drops else False


def _has_dora(layer: Any) -> bool:
    # DoRA also divides by the norm of the whole weight, so W + s B A isn't the layer's weight.
    return any(getattr(layer, "use_dora", {}).values())


def weight_of(layer: Any) -> Tensor:
    """Return a linear layer's weight [out, in] plus its active LoRA adapters: W + s B A."""
    base: Tensor = getattr(layer, "base_layer", layer).weight
    if not hasattr(layer, "base_layer") or layer.disable_adapters:
        return base
    weight = base
    for name in layer.active_adapters:
        if name in layer.lora_A:
            down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
            weight = weight + (up @ down * layer.scaling[name]).to(base.dtype)
    return weight


def cross_attention(attention: Any, x: Tensor, hidden: Tensor) -> Tensor:
    """Compute a `WhisperAttention` over encoder outputs, with keys and values absorbed.

    Args:
        attention: the module whose weights are used.
        x: [rows, length, width], normalized.
        hidden: [rows, frames, width].

    Returns:
        [rows, length, width].
    """
    rows, length, width = x.shape
    heads, size = attention.num_heads, attention.head_dim
    keys, values = (weight_of(p) for p in _projections(attention))
    query = attention.q_proj(x) * attention.scaling
    # [rows, length, heads, size] x [heads, size, width]: queries in the space of the frames.
    query = query.view(rows, length, heads, size)
    query = torch.einsum("rlhs,hsw->rhlw", query, keys.view(heads, size, width))
    frames = hidden.to(query.dtype)
    scores = query.reshape(rows, heads * length, width) @ frames.transpose(1, 2)
    mixed = torch.softmax(scores.float(), dim=-1).to(query.dtype) @ frames
    mixed = mixed.view(rows, heads, length, width)
    output = torch.einsum("rhlw,hsw->rlhs", mixed, values.view(heads, size, width))
    output = output.reshape(rows, length, width)
    bias = getattr(attention.v_proj, "base_layer", attention.v_proj).bias
    if bias is not None:  # the probabilities sum to 1
        output = output + bias
    result: Tensor = attention.out_proj(output)
    return result
