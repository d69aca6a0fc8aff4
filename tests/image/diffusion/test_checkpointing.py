"""`train.gradient_checkpointing`: the same gradients from less that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.image.diffusion.test_families import batch_of, task_on


@pytest.mark.parametrize(
    "kind",
    [
        *("sd", "sd3", "flux-dev", "flux2-klein", "z-image"),
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("sdxl", "sd3-no-t5")),
    ],
)
def test_gradients_are_the_same_and_less_is_kept(tmp_path: Path, kind: str) -> None:
    found: list[tuple[int, dict[str, torch.Tensor]]] = []
    for setting in ("false", "true"):
        # Where the base's own prediction is asked for in between, adapters are off for a while.
        over = {"gradient_checkpointing": setting, "keep_layout": "0.5"}
        task = task_on(tmp_path / setting, kind, **over)
        with torch.no_grad():
            for i, p in enumerate(task.param_groups()[0]["params"]):
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        task.module.train()
        kept = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        batch = batch_of(task, list(task._brand)[:4])
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = task.module(batch).total.sum()
        loss.backward()
        named = task.module.named_parameters()
        found.append((kept, {n: p.grad for n, p in named if p.grad is not None}))
    (whole, expected), (less, gradients) = found
    assert gradients.keys() == expected.keys()
    assert gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)
    assert less < 0.6 * whole
