"""What one step does: clipping and learning rate; and what validation must not change."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mmtune.data.rows import Row
from mmtune.training.interrupt import Interrupted
from mmtune.training.log import read_log
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
from mmtune.training.reporter import Reporter
from mmtune.training.task import mean_loss
from tests.training.test_loop import Notes, StopAt, equal, final, losses, options
from tests.training.toy import ToyTask, rows


def watched(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """All gradients in one vector, as the optimizer gets them, for each step."""
    seen: list[torch.Tensor] = []
    step = torch.optim.AdamW.step

    def watch(self: torch.optim.AdamW, *arguments: object) -> object:
        weights = [p for group in self.param_groups for p in group["params"]]
        seen.append(torch.cat([p.grad.flatten() for p in weights if p.grad is not None]))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    return seen


def norms(folder: Path) -> list[float]:
    return [e["grad_norm"] for e in read_log(folder / "log.jsonl") if "loss" in e]


@pytest.mark.parametrize("micro", [None, 3])
def test_clipping_is_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: int | None
) -> None:
    """Against `clip_grad_norm_`: same direction, and the norm that was asked for."""
    seen = watched(monkeypatch)
    common = {"epochs": 1, "batch_size": 7, "micro_batch": micro}
    fit(ToyTask(), rows(7), [], options(clip=None, **common), tmp_path / "whole")
    (whole,) = seen
    (norm,) = norms(tmp_path / "whole")
    assert float(whole.norm()) == pytest.approx(norm, rel=1e-5)
    for clip in (norm / 10, norm / 2, norm * 0.999, norm * 1.001, norm * 10):
        seen.clear()
        fit(ToyTask(), rows(7), [], options(clip=clip, **common), tmp_path / str(clip))
        theirs = torch.nn.Parameter(torch.zeros_like(whole))
        theirs.grad = whole.clone()
        torch.nn.utils.clip_grad_norm_([theirs], clip)
        torch.testing.assert_close(seen[0], theirs.grad, rtol=1e-4, atol=1e-7)
        # The log has the norm before clipping.
        assert norms(tmp_path / str(clip)) == pytest.approx([norm], rel=1e-5)


def rates(folder: Path) -> list[float]:
    return [e["lr"] for e in read_log(folder / "log.jsonl") if "loss" in e]


@pytest.mark.parametrize(("warmup", "first"), [(0.0, 0), (0.25, 3), (0.29, 3)])
def test_the_learning_rate_rises_and_falls(tmp_path: Path, warmup: float, first: int) -> None:
    """Linear up to `lr` in the first share of all steps; then half a cosine wave down to 0."""
    total, lr = 12, 0.05
    rising = [lr * i / first for i in range(first)]
    falling = [lr * (1 + math.cos(math.pi * i / (total - first))) / 2 for i in range(total - first)]
    for schedule, rest in (
        ("cosine", falling),
        ("constant_with_warmup", [lr] * (total - first)),
        ("linear", [lr * (total - first - i) / (total - first) for i in range(total - first)]),
    ):
        settings = options(epochs=4, schedule=schedule, warmup=warmup, lr=lr)
        fit(ToyTask(), rows(24), [], settings, tmp_path / schedule)
        assert rates(tmp_path / schedule) == pytest.approx(rising + rest, abs=1e-9)
    # `max_steps` is the end that the schedule knows.
    cut = options(epochs=400, max_steps=12, schedule="cosine", warmup=warmup, lr=lr)
    fit(ToyTask(), rows(24), [], cut, tmp_path / "cut")
    assert rates(tmp_path / "cut") == pytest.approx(rising + falling, abs=1e-9)


def test_validation_changes_nothing_in_training(tmp_path: Path) -> None:
    """Neither its random numbers, nor that it switches dropout off and gradients."""
    found = {}
    for every in (None, 1, 4):
        task = ToyTask(dropout=0.3, views=3)
        held = rows(5, "held") if every else []
        settings = options(epochs=1, batch_size=4, validate_every=every)
        fit(task, rows(21), held, settings, tmp_path / str(every))
        found[every] = losses(tmp_path / str(every))
        assert task.validations == {None: 0, 1: 7, 4: 3}[every]
        assert task.module.training
    assert found[1] == found[4] == found[None]


class Given(ToyTask):
    """Validations whose errors are given, the base's first."""

    def __init__(self, *errors: float) -> None:
        super().__init__()
        self.errors = list(errors)

    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        assert not self.module.training
        assert not torch.is_grad_enabled()
        self.validations += 1
        return {"error": self.errors[self.validations - 1]}


@pytest.mark.parametrize(
    ("patience", "errors", "best", "steps"),
    [
        # A better one starts the count again; one as good as the best is not better.
        (2, [9, 5, 6, 4, 4, 4, 1], 3, 5),
        (3, [9, 5, 6, 7, 4, 5, 4, 4, 1], 4, 7),
        (1, [9, 5, 5, 1], 1, 2),
        # The base's own error is no validation that could be better.
        (2, [1, 5, 6, 7, 1], 1, 3),
        # A figure that isn't a number is not better, and counts.
        (2, [9, 5, math.nan, math.inf, 1], 1, 3),
        # Patience that is longer than the run, and none.
        (9, [9, 5, 6, 4, 6, 6, 6], 3, 6),
        (None, [9, 5, 6, 6, 6, 6, 6], 1, 6),
        # At the last step a run is done, however patient.
        (2, [9, 5, 6, 4, 3, 5, 6], 4, 6),
    ],
)
def test_patience_counts_validations_in_a_row(
    tmp_path: Path, patience: int | None, errors: list[float], best: int, steps: int
) -> None:
    settings = options(epochs=6 if steps == 6 else 9, patience=patience)
    result = fit(Given(*errors), rows(8), rows(3, "held"), settings, tmp_path)
    assert (result.best_step, result.steps) == (best, steps)
    assert result.reason == ("done" if steps == 6 else "early stop")
    assert result.base == {"error": errors[0]}
    assert result.best == {"error": errors[best]}


def test_patience_goes_on_after_an_interruption(tmp_path: Path) -> None:
    errors = [9.0, 5, 6, 6, 6, 1]
    settings = options(epochs=9, patience=3)
    whole = Given(*errors)
    fit(whole, rows(8), rows(3, "held"), settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(
            Given(*errors), rows(8), rows(3, "held"), settings, tmp_path / "cut",
            StopAt(3, signal.SIGTERM),
        )  # fmt: skip
    again = Given(*errors[4:])
    result = fit(again, rows(8), rows(3, "held"), settings, tmp_path / "cut")
    assert (result.best_step, result.steps, result.reason) == (1, 4, "early stop")
    assert equal(final(again), final(whole))


@pytest.mark.parametrize("count", [1, 16, 17, 40])
def test_validation_draws_the_same_every_time_and_as_no_epoch_does(count: int) -> None:
    """The default of a task: the loss per unit over all rows, in batches of at most 16."""
    task, held = ToyTask(dropout=0.5), rows(count, "held")
    task.module.train()
    sizes: list[int] = []
    collate, drawn = task.collate, set()

    def watch(examples, tensors, draws):  # type: ignore[no-untyped-def]
        sizes.append(len(examples))
        drawn.update((d.seed, d.epoch) for d in draws)
        return collate(examples, tensors, draws)

    task.collate = watch  # type: ignore[method-assign]
    with torch.no_grad():
        found = mean_loss(task, held)
        assert mean_loss(task, held[::-1]) == pytest.approx(found, rel=1e-5)
    assert task.module.training
    assert sizes[: len(sizes) // 2] == [16] * (count // 16) + [count % 16] * bool(count % 16)
    assert drawn == {(0, -1)}  # epochs of training are counted from 0
    task.module.eval()
    whole = [Draw(0, -1, row.id) for row in held]
    examples = [task.choose(row, draw) for row, draw in zip(held, whole, strict=True)]
    stored = [{"toy": t} for t in task.features.get([p for e in examples for p in e.parts])]
    loss = task.module(collate(examples, stored, whole))
    assert found == pytest.approx(float(loss.total.sum() / loss.units.sum()), rel=1e-5)
    assert math.isnan(mean_loss(task, []))
    assert not task.module.training


def test_the_log_of_a_run_that_broke_off_is_cut_where_it_goes_on(tmp_path: Path) -> None:
    """Steps after the last checkpoint are done again, and stand in the log once."""

    class Dies(Reporter):
        def step(self, step: int, total: int, loss: float, lr: float) -> None:
            if step == 5:
                raise RuntimeError("the machine is gone")

    settings = options(checkpoint_every=3)
    fit(ToyTask(dropout=0.3), rows(21), rows(3, "held"), settings, tmp_path / "whole")
    task = ToyTask(dropout=0.3)
    with pytest.raises(RuntimeError, match="is gone"):
        fit(task, rows(21), rows(3, "held"), settings, tmp_path / "cut", Dies())
    assert len(losses(tmp_path / "cut")) == 5
    notes = Notes()
    fit(ToyTask(dropout=0.3), rows(21), rows(3, "held"), settings, tmp_path / "cut", notes)
    entries = list(read_log(tmp_path / "cut/log.jsonl"))
    assert [e["step"] for e in entries if "loss" in e] == list(range(1, 10))
    assert [e["step"] for e in entries if "validation" in e] == [0, 3, 6, 9]
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert notes.notes == ["resuming after step 3 of 9"]


def test_a_rows_weight_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradient are sums over rows, each times its weight, over the units so weighted."""
    weights = [1.0, 5.0, 0.25, 2.0, 1.0]
    items = [
        row.model_copy(update={"weight": weight})
        for row, weight in zip(rows(5), weights, strict=True)
    ]
    task = ToyTask()
    draws = [Draw(0, 0, row.id) for row in items]
    examples = [task.choose(row, draw) for row, draw in zip(items, draws, strict=True)]
    stored = [{"toy": t} for t in task.features.get([p for e in examples for p in e.parts])]
    loss = task.module(task.collate(examples, stored, draws))
    scale = torch.tensor(weights)
    mean = (loss.total * scale).sum() / (loss.units * scale).sum()
    mean.backward()
    gradient = torch.cat([p.grad.flatten() for _, p in task.weights() if p.grad is not None])
    for micro in (None, 1, 2):
        seen = watched(monkeypatch)
        settings = options(epochs=1, batch_size=5, micro_batch=micro, clip=None)
        fit(ToyTask(), items, [], settings, tmp_path / str(micro))
        assert losses(tmp_path / str(micro)) == pytest.approx([mean.item()], rel=1e-5)
        torch.testing.assert_close(seen[0], gradient, rtol=1e-4, atol=1e-6)
