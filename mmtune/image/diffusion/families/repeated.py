"""Joint attention in which one text token stands for many equal ones.

Text tokens have no positions in joint attention. Tokens that are equal at the input get equal
queries, keys and values, and so equal outputs. Everything else in a block works on each token
alone, so they stay equal through all blocks. For any query, n equal keys with logit s add
n exp(s) v to the numerator of the softmax's mean and n exp(s) to its denominator. One key with
logit s + ln n adds the same. So one token gives the same output as all n, for any weights, and
also the same gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SAME_SHARE = 0.98  # share of the tokens that the first of two keys stands for


def biases(count: int, dtype: torch.dtype) -> list[float]:
    """Find two numbers of a number format whose exponentials add up to `count`.

    In bfloat16 the number nearest to ln 256 gives a weight that is 1.4 % off. A second key takes
    the rest, where the format's numbers are closer together.
    """

    def rounded(value: float) -> float:
        return float(torch.tensor(value, dtype=torch.float64).to(dtype))

    first = rounded(math.log(SAME_SHARE * count))
    return [first, rounded(math.log(count - math.exp(first)))]


class RepeatedToken:
    """An attention processor for image and text that counts the last text token many times.

    Texts of another length are passed to the original processor.

    Args:
        plain: the original processor, diffusers' `JointAttnProcessor2_0`.
        length: number of text tokens for which the last one counts many times.
        count: number of tokens that the last one stands for.
    """

    def __init__(self, plain: Callable[..., Any], length: int, count: int) -> None:
        self.plain = plain
        self.length = length
        self.count = count

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Any:
        """Compute the outputs for image and text, each in the shape of its input.

        Args:
            attn: the attention module; its projections may hold LoRA.
            hidden_states: image tokens, [rows, tokens, width].
            encoder_hidden_states: text tokens, [rows, tokens, width].
            attention_mask: is ignored, as by the original processor.
        """
        text = encoder_hidden_states
        if text is None or text.shape[1] != self.length:
            return self.plain(attn, hidden_states, text, attention_mask)
        image = hidden_states.shape[1]
        query = _both(
            _heads(attn, attn.to_q(hidden_states), attn.norm_q),
            _heads(attn, attn.add_q_proj(text), attn.norm_added_q),
        )
        key = _both(
            _heads(attn, attn.to_k(hidden_states), attn.norm_k),
            _heads(attn, attn.add_k_proj(text), attn.norm_added_k),
        )
        value = _both(
            _heads(attn, attn.to_v(hidden_states), None),
            _heads(attn, attn.add_v_proj(text), None),
        )
        key, value = (_both(tokens, tokens[:, :, -1:]) for tokens in (key, value))
        bias = query.new_zeros(1, 1, 1, key.shape[2])
        bias[..., -2:] = bias.new_tensor(biases(self.count, bias.dtype))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.transpose(1, 2).flatten(2)
        seen, read = mixed[:, :image], mixed[:, image:]
        for layer in attn.to_out:
            seen = layer(seen)
        return seen, read if attn.context_pre_only else attn.to_add_out(read)


def _both(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], dim=2)


def _heads(attn: Any, tokens: Tensor, norm: Any) -> Tensor:
    """[rows, tokens, width] to [rows, heads, tokens, width of a head]."""
    rows, count, _ = tokens.shape
    split = tokens.view(rows, count, attn.heads, -1).transpose(1, 2)
    found: Tensor = split if norm is None else norm(split)
    return found
