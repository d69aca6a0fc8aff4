"""Cross-entropy after Whisper's frozen projection, the base's prediction in a share of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 256  # positions whose logits are held at once


def frozen_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    kept: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """(1 - keep) cross-entropy + keep KL(base || adapted), for each position.

    The second part is knowledge distillation from the untuned model (Li and Hoiem 2016, "Learning
    without Forgetting", arXiv 1606.09282): what isn't to be learned stays as it was.

    Args:
        hidden: [n, width], the adapted decoder's last states.
        weight: [vocabulary, width] of the frozen projection.
        targets: [n] ids.
        kept: [n, width], the base's states at the same positions; None: cross-entropy alone.
        keep: [n] in [0, 1].

    Returns:
        [n] float32.
    """
    losses: Tensor = _Frozen.apply(hidden, weight, targets, kept, keep)  # type: ignore[no-untyped-call]
    return losses


class _Frozen(torch.autograd.Function):
    # Whisper's vocabulary of 51,865 makes logits by far the largest tensor of a step. The
    # projection gets no gradient, so the one of its input, (softmax - target) @ weight, is taken
    # while a chunk of logits is there, and scaled in the backward pass. Apple's Cut Cross-Entropy
    # (arXiv 2411.09009) and Liger Kernel (arXiv 2410.10989, section 3.2) do the same.

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        kept: Tensor | None,
        keep: Tensor | None,
    ) -> Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            places = torch.arange(len(targets[part]), device=hidden.device)
            logs = _log_softmax(hidden[part], weight)
            losses[part] = -logs[places, targets[part]]
            teacher = share = None
            if kept is not None and keep is not None:
                share = keep[part, None].float()
                wanted = _log_softmax(kept[part], weight)
                teacher = wanted.exp()
                divergence = (teacher * wanted.sub_(logs)).sum(dim=-1)
                losses[part] += share.squeeze(1) * (divergence - losses[part])
            if gradient is not None:
                error = logs.exp_()
                if teacher is None or share is None:
                    error[places, targets[part]] -= 1
                else:
                    error -= teacher.mul_(share)
                    error[places, targets[part]] -= 1 - share.squeeze(1)
                gradient[part] = (error.to(weight.dtype) @ weight).to(hidden.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None].to(gradient.dtype), None, None, None, None


def _log_softmax(hidden: Tensor, weight: Tensor) -> Tensor:
    logits = nn.functional.linear(hidden.to(weight.dtype), weight).float()
    return logits.sub_(logits.logsumexp(dim=-1, keepdim=True))
