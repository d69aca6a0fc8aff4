"""Training loss: cross-entropy, mixed with distillation from the untuned base."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 256  # number of positions whose logits are in memory at once
LIKELY = 32  # number of ids of the base's prediction that are stored


def frozen_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    kept: tuple[Tensor, Tensor] | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Compute (1 - keep) cross-entropy + keep KL(base || adapted) for each position.

    The second term is knowledge distillation from the untuned model (Li and Hoiem 2016, "Learning
    without Forgetting", arXiv 1606.09282).

    Args:
        hidden: [n, width], the adapted decoder's last states.
        weight: [vocabulary, width] of the frozen projection.
        targets: [n] ids.
        kept: the base's prediction (`likely`); None: only cross-entropy.
        keep: [n] share of the base's prediction, 0 to 1.

    Returns:
        [n] float32.
    """
    ids, constant = targets[:, None], 0.0
    shares = torch.ones_like(ids, dtype=torch.float32)
    if kept is not None and keep is not None:
        share = keep[:, None].float()
        probabilities = kept[1].float()
        ids = torch.cat([ids, kept[0].long()], dim=1)
        shares = torch.cat([1 - share, share * probabilities], dim=1)
        constant = (share * torch.special.entr(probabilities)).sum(dim=-1)
    losses: Tensor = _Frozen.apply(hidden, weight, ids, shares)  # type: ignore[no-untyped-call]
    return losses - constant


def likely(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the `LIKELY` most probable ids of each position; their probabilities sum to 1.

    Positions are projected in chunks of a fixed size, so that their number changes no result.

    Args:
        hidden: [n, width], last states of a decoder.
        weight: [vocabulary, width] of its projection.

    Returns:
        ids [n, LIKELY] int32 and probabilities [n, LIKELY] float32.
    """
    found = []
    for chunk in torch.split(hidden.to(weight.dtype), CHUNK):
        full = nn.functional.pad(chunk, (0, 0, 0, CHUNK - len(chunk)))
        found.append(nn.functional.linear(full, weight)[: len(chunk)].topk(LIKELY, dim=-1))
    values = torch.cat([each.values for each in found])
    return torch.cat([each.indices for each in found]).int(), values.float().softmax(dim=-1)


class _Frozen(torch.autograd.Function):
    # Whisper has 51,865 ids, so the logits are by far the largest tensor of a step. The projection
    # needs no gradient. The gradient of its input, (softmax - target) @ weight, is computed while
    # a chunk of logits is in memory, and is scaled in the backward pass. Apple's Cut Cross-Entropy
    # (arXiv 2411.09009) and Liger Kernel (arXiv 2410.10989, section 3.2) do the same. A target is
    # a distribution over a few ids [n, k]; an id may occur twice.

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, shares: Tensor) -> Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = nn.functional.linear(hidden[part].to(weight.dtype), weight).float()
            scale = logits.logsumexp(dim=-1, keepdim=True)
            losses[part] = (shares[part] * (scale - logits.gather(1, ids[part]))).sum(dim=-1)
            if gradient is not None:
                error = logits.sub_(scale).exp_().scatter_add_(1, ids[part], -shares[part])
                gradient[part] = (error.to(weight.dtype) @ weight).to(hidden.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the stored gradient by the gradient of each position's loss."""
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None].to(gradient.dtype), None, None, None
