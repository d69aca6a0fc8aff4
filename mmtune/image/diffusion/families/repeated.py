"""Attention to one token that stands for many equal ones.

In joint attention the tokens of the text have no positions. Tokens that are equal at the input get
equal queries, keys and values, so equal outputs, and all else in a block works on each token by
itself: they stay equal through all blocks. To any query n equal keys with a logit s add n exp(s) v
to the numerator of the softmax's mean and n exp(s) to its denominator, as one key with the logit
s + ln n does. So one of them gives what all of them give, for any weights, and with that the same
gradient of the weights too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SAME_SHARE = 0.98  # of the count, that the first of two keys stands for


def biases(count: int, dtype: torch.dtype) -> list[float]:
    """Two numbers that `dtype` holds, whose exponentials add up to `count`.

    In bfloat16 the number nearest to ln 256 is 1.4 % of the weight off; the second key takes what
    is left, where numbers are finer.
    """

    def rounded(value: float) -> float:
        return float(torch.tensor(value, dtype=torch.float64).to(dtype))

    first = rounded(math.log(SAME_SHARE * count))
    return [first, rounded(math.log(count - math.exp(first)))]


class RepeatedToken:
    """A processor of an `Attention` over image and text, where the last text token counts for many.

    A text of another length is left to the processor that was there before.

    Args:
        plain: that processor, diffusers' `JointAttnProcessor2_0`.
        length: tokens of a text whose last token is meant.
        count: how many it stands for.
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
        """The outputs for image and text, each in the shape of its input.

        Args:
            attn: the module, whose projections may hold LoRA.
            hidden_states: of the image, [rows, tokens, width].
            encoder_hidden_states: of the text, [rows, tokens, width].
            attention_mask: none is used, as in the plain processor.
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
