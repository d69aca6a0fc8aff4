"""The training loop of all modalities, built on Accelerate.

A step's gradient is the sum over its rows, divided once by the sum of their units, over all
micro-batches and processes. So a batch of 8 gives the same gradient as 2 micro-batches of 4, or as
2 processes with 4 rows each. Only LoRA's dropout masks depend on how a batch is divided, because
they come from the process's random generator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    ProjectConfiguration,
    broadcast_object_list,
    gather_object,
    send_to_device,
)
from diffusers.optimization import get_scheduler
from torch import Tensor

from mmtune.config import TrainOptions
from mmtune.data.rows import Row
from mmtune.errors import MmtuneError, TrainingError
from mmtune.system.memory import MemoryNeed, Phase, gauge_of, guarded
from mmtune.system.precision import choose_precision
from mmtune.system.processes import make_accelerator, this_process
from mmtune.training.balance import balance_groups
from mmtune.training.batches import Plan, Slot, shard
from mmtune.training.checkpoint import Checkpoint, drop_old, newest, save_checkpoint
from mmtune.training.disk_space import bytes_in, require_space, run_bytes
from mmtune.training.estimate import (
    PREPARATION,
    TRAINING,
    VALIDATION,
    Clock,
    LaterWork,
    StepTimes,
    estimate,
)
from mmtune.training.interrupt import Interrupted, StopRequest
from mmtune.training.kept_weights import Snapshot, Snapshots
from mmtune.training.log import RunLog
from mmtune.training.optimizer import make_optimizer, require_optimizer
from mmtune.training.preflight import Preflight, check_trainable, preflight
from mmtune.training.reporter import FitResult, Reporter
from mmtune.training.samples import ShowsSamples
from mmtune.training.task import Batch, Task
from mmtune.training.tracker import FOLDER, Tracker, require_tracker


@dataclass
class _State:
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    base: dict[str, float] = field(default_factory=dict)
    since_best: int = 0
    bad_in_a_row: int = 0
    finished: str = ""


def fit(
    task: Task,
    train: Sequence[Row],
    validation: Sequence[Row],
    options: TrainOptions,
    folder: Path,
    reporter: Reporter | None = None,
    settings: Mapping[str, Any] | None = None,
    later: Callable[[int, float], LaterWork] | None = None,
    clock: Clock | None = None,
) -> FitResult:
    """Train the adapter in `task.module`, resuming from `folder/checkpoints` if there are any.

    Afterwards the module holds the best weights by `task.monitor`, or the last ones if there are no
    validation rows.

    Args:
        task: the modality's task.
        train: the training rows.
        validation: the validation rows; may be empty.
        options: settings of the training.
        folder: the run folder.
        reporter: receives the progress; None: nobody.
        settings: all settings of the run, for its tracker; None: `options`.
        later: gives the work after training, from the number of validations after the base's and
            the seconds of one (0 without validation); it is needed to estimate how long the whole
            command takes.
        clock: gets the seconds of the phases.

    Raises:
        TrainingError: no parameter is trainable, losses stay non-finite, or a checkpoint can't be
            written.
        ConfigError: no row has the label that `options.balance` names.
        Interrupted: a signal asked for a stop; everything is saved.
    """
    if not train:
        raise TrainingError(
            "the dataset has no rows for training", "lower data.validation and data.test"
        )
    reporter = reporter or Reporter()
    clock = clock or Clock()
    loop = _Loop(task, train, validation, options, folder, reporter, settings, later, clock)
    with StopRequest() as stop:
        try:
            return loop.run(stop)
        finally:
            loop.tracker.finish()


class _Loop:
    def __init__(
        self,
        task: Task,
        train: Sequence[Row],
        validation: Sequence[Row],
        options: TrainOptions,
        folder: Path,
        reporter: Reporter,
        settings: Mapping[str, Any] | None,
        later: Callable[[int, float], LaterWork] | None,
        clock: Clock,
    ) -> None:
        self.task, self.train, self.validation = task, train, validation
        self.options, self.features = options, task.features
        self.checkpoints = folder / "checkpoints"
        check_trainable(task.module)
        require_tracker(options.tracker)
        require_optimizer(options)
        device = this_process().device
        self.accelerator = make_accelerator(
            choose_precision(options.precision, device),
            log_with=options.tracker,
            project_config=ProjectConfiguration(
                project_dir=str(folder), logging_dir=str(folder / FOLDER)
            ),
        )
        torch.manual_seed(options.seed + self.accelerator.process_index)
        groups: list[dict[str, Any]] = [dict(group) for group in task.param_groups()]
        self.optimizer: Any = make_optimizer(groups, options)
        self.module, self.optimizer = self.accelerator.prepare(task.module, self.optimizer)
        self.weights = {n: p for n, p in task.module.named_parameters() if p.requires_grad}
        self.balance = balance_groups(train, options.balance) if options.balance else None
        self.plan = Plan(train, task.bucket, options.batch_size, options.seed, self.balance)
        total = options.epochs * self.plan.steps_per_epoch
        self.total = min(total, options.max_steps or total)
        # Not prepared by Accelerate, which would step the scheduler once for each process.
        self.scheduler = get_scheduler(
            options.schedule,
            getattr(self.optimizer, "optimizer", self.optimizer),
            num_warmup_steps=round(options.warmup * self.total),
            num_training_steps=self.total,
        )
        self.main = self.accelerator.is_main_process
        self.reporter = reporter if self.main else Reporter()
        self.log = RunLog(folder / "log.jsonl", self.main)
        self.best_weights: dict[str, Tensor] = {}
        self.every = options.validate_every or self.plan.steps_per_epoch
        validations = math.ceil(self.total / self.every)
        self.snapshots = Snapshots(folder, options.compare_checkpoints, validations)
        self.state = _State()
        self.later, self.clock = later, clock
        self.later_work: LaterWork | None = None
        self.step_seconds, self.validation_seconds = 0.0, 0.0
        self.step_times = StepTimes()
        self.to_do = self.total  # steps of this process
        self.settings = options.model_dump(mode="json") if settings is None else settings
        self.tracker = Tracker(
            self.accelerator, options.tracker, folder.resolve().name, self.reporter.note
        )

    # --- the run ---

    def run(self, stop: StopRequest) -> FitResult:
        """Train from the last checkpoint to the end."""
        self._resume()
        if not self.state.finished:
            self.to_do = self.total - self.state.step
            for line in self.balance.lines() if self.balance is not None else ():
                self.reporter.note(f"balance    {line}")
            self.tracker.start(self.settings, self.state.step)
            self._prepare_prefix(stop)
            self.clock.lap(PREPARATION)
            self._first_validation(self.state.step == 0 and not self.state.base)
            self._epochs(stop)
            self._save(finished=self.state.finished or "done")
            self.clock.lap(TRAINING)
        state = self.state
        if self.best_weights:
            self._load_weights(self.best_weights)
            if self.snapshots.most and not self.snapshots.holds(state.best_step):
                self._keep(state.best_step, state.best)
        # Not `end_training`, which ends the process group: the comparison still needs it.
        self.accelerator.wait_for_everyone()
        return FitResult(state.step, state.best_step, state.best, state.base, state.finished)

    def _first_validation(self, validate: bool) -> None:
        """Validate the base, and tell in which range the time of the whole command is."""
        began = time.perf_counter()
        if validate:
            self._validate()
        self.validation_seconds = time.perf_counter() - began if self.validation else 0.0
        if self.later is None or not self.main or (self.validation and not validate):
            return  # a resumed run hasn't measured a validation
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        try:
            with self._guarded("sampling"), torch.random.fork_rng(devices=devices):
                self.later_work = self.later(self._validations_left(), self.validation_seconds)
        except MmtuneError as error:  # what it measures is read again later, and told there
            self.reporter.note(f"how long the whole command takes isn't known: {error.found}")
            return
        finally:
            self.clock.lap(PREPARATION)
        self._estimate(self.step_seconds, timed=False)

    def _validations_left(self) -> int:
        if not self.validation:
            return 0
        done = max(0, self.state.step - 1) // self.every  # that of this step is still to come
        return math.ceil(self.total / self.every) - done

    def _estimate(self, step_seconds: float, *, timed: bool) -> None:
        """Tell how long the whole command takes, by what is known now."""
        if self.later_work is None:
            return
        found = estimate(
            clock=self.clock.seconds,
            steps=self.total - self.state.step,
            step_seconds=step_seconds,
            validations=self._validations_left(),
            validation_seconds=self.validation_seconds,
            later=self.later_work,
            timed=timed,
        )
        name = "estimate" if timed else "range"
        self.log.write(event=name, step=self.state.step, phases=dict(found.phases))
        self.reporter.estimate(found)

    def _epochs(self, stop: StopRequest) -> None:
        while self.state.step < self.total:
            epoch, done = divmod(self.state.step, self.plan.steps_per_epoch)
            for batch in self.plan.epoch(epoch)[done:]:
                with self._guarded("training"):
                    self._step(batch, epoch, stop)
                step = self.state.step
                last = step == self.total
                if self.validation and (step % self.every == 0 or last):
                    self._validate()
                    patience = self.options.patience
                    if patience is not None and self.state.since_best >= patience and not last:
                        self.state.finished = "early stop"
                        return
                if self._stopping(stop):
                    self._save()
                    raise Interrupted(stop.number or 15, step)
                if step % self.options.checkpoint_every == 0 and not last:
                    self._save()
                if last:
                    return

    def _prepare_prefix(self, stop: StopRequest) -> None:
        size = self.options.micro_batch or self.options.batch_size
        first = [slot.row for slot in self.plan.epoch(0)[0][:size]]
        random = torch.get_rng_state()  # the measured step must not change the run's randomness
        device = self.accelerator.device

        def tight(need: MemoryNeed) -> None:
            self.reporter.note(need.warning(len(first), self._lighter("training")))

        with self._guarded("training"):
            facts = preflight(
                self.task,
                self.features,
                self.train,
                first,
                self.options,
                self.total,
                self.plan.steps_per_epoch,
                device,
                lambda rows: self._micro([Slot(row) for row in rows], 0, len(rows), sync=True)[0],
                gauge_of(device),
                tight,
            )
        self.optimizer.zero_grad()
        torch.set_rng_state(random)
        self.reporter.preflight(facts)
        self.step_seconds = facts.step_seconds
        self.log.write(event="preflight", step=self.state.step, **facts.__dict__)
        if self.main:
            self._require_space(facts)
        if self.features.cache is None:
            return
        if not facts.cache_pays:
            self.features.cache = None
            return
        rows = [*self.train, *self.validation]
        missing = self.features.missing(p for row in rows for p in self.task.variants(row))
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.reporter.filling(done * world, len(missing))
            if stop.number:
                raise Interrupted(stop.number, self.state.step)

        with self._guarded("computing features"):
            self.features.fill(missing[rank::world], advance)
        self.accelerator.wait_for_everyone()

    def _require_space(self, facts: Preflight) -> None:
        written = bytes_in([self.checkpoints, self.snapshots.folder])
        needed = max(0, run_bytes(self.weights.values(), self.options) - written)
        needs = {self.checkpoints: ("checkpoints and adapter", needed)}
        if self.features.cache is not None and facts.cache_pays:
            needs[self.features.cache.root] = ("features", facts.cache_bytes)
        require_space(needs)

    # --- memory ---

    def _guarded(self, doing: Phase) -> AbstractContextManager[None]:
        return guarded(doing, lambda: self._lighter(doing))

    def _lighter(self, doing: Phase) -> list[str]:
        """List settings that need less memory: first those that keep the result."""
        options, own = self.options, []
        micro = options.micro_batch or options.batch_size
        if doing == "training" and micro > 1:
            own.append(f"--micro_batch {micro // 2} (now {micro}; the same result)")
        if doing == "training" and not options.gradient_checkpointing:
            own.append("--gradient_checkpointing true (slower; the same result)")
        return [*own, *self.task.lighter(doing)]

    # --- one step ---

    def _step(self, batch: Sequence[Slot], epoch: int, stop: StopRequest) -> None:
        began = time.perf_counter()
        accelerator, options = self.accelerator, self.options
        micros = shard(
            batch, accelerator.process_index, accelerator.num_processes, options.micro_batch
        )
        self.module.train()
        sums = torch.zeros(3, dtype=torch.float64)  # loss, units, non-finite rows
        bad: list[str] = []
        for i, slots in enumerate(micros):
            totals, units, wrong = self._micro(slots, epoch, len(batch), sync=i == len(micros) - 1)
            sums += torch.tensor([totals, units, len(wrong)], dtype=torch.float64)
            bad += wrong
        sums = accelerator.reduce(sums.to(accelerator.device, torch.float64), "sum").cpu()
        loss, units = float(sums[0]), float(sums[1])
        # DDP averaged over processes and `_micro` divided by rows. Undo both, and divide by units.
        factor = accelerator.num_processes * len(batch) / max(units, 1e-12)
        norm = float(accelerator.clip_grad_norm_(self.weights.values(), math.inf)) * factor
        step = self.state.step + 1
        if sums[2] > 0 or (not math.isfinite(norm) and accelerator.scaler is None):
            names = [n for part in gather_object([bad]) for n in part] if sums[2] > 0 else []
            self._skip(step, names or [slot.row.id for slot in batch], epoch)
            if accelerator.scaler is not None:  # end the scaler's step, and lower its scale
                accelerator.scaler.update()
        else:
            if options.clip is not None and norm > options.clip:
                factor *= options.clip / norm
            for weight in self.weights.values():
                if weight.grad is not None:
                    weight.grad.mul_(factor)
            self.optimizer.step()  # with fp16 the scaler itself skips a step that overflowed
            self.state.bad_in_a_row = 0
        self.optimizer.zero_grad()
        lr = self.scheduler.get_last_lr()[0]
        self.scheduler.step()
        self.state.step = step
        mean = loss / units if units else math.nan
        seconds = time.perf_counter() - began
        if math.isfinite(mean):
            values = {"loss": mean, "lr": lr, "grad_norm": norm}
            self.log.write(
                step=step,
                epoch=step / self.plan.steps_per_epoch,
                time=seconds,
                **{k: v if math.isfinite(v) else None for k, v in values.items()},
            )
            self.tracker.log(values, step)
        self.reporter.step(step, self.total, mean, lr)
        if self.step_times.add(seconds, self.to_do):
            self.clock.lap(TRAINING)
            self._estimate(self.step_times.typical, timed=True)

    def _micro(
        self, slots: Sequence[Slot], epoch: int, rows: int, *, sync: bool
    ) -> tuple[float, float, list[str]]:
        batch = send_to_device(self._batch(slots, epoch), self.accelerator.device)
        weights = torch.tensor([s.row.weight * s.counts for s in slots])
        weights = weights.to(self.accelerator.device)
        with _sync_when(sync, self.accelerator, self.module):
            loss = self.module(batch)
            finite = torch.isfinite(loss.total.detach())
            total = (loss.total * weights).sum()
            self.accelerator.backward(total / rows)
        wrong = [s.row.id for s, good in zip(slots, finite.tolist(), strict=True) if not good]
        return float(total.detach()), float((loss.units * weights).sum()), wrong

    def _batch(self, slots: Sequence[Slot], epoch: int) -> Batch:
        draws = [slot.draw(self.options.seed, epoch) for slot in slots]
        examples = [self.task.choose(s.row, d) for s, d in zip(slots, draws, strict=True)]
        tensors = iter(self.features.get([part for e in examples for part in e.parts]))
        stored = [{part.stage: next(tensors) for part in e.parts} for e in examples]
        return self.task.collate(examples, stored, draws)

    def _skip(self, step: int, rows: Sequence[str], epoch: int) -> None:
        self.state.bad_in_a_row += 1
        named = ", ".join(sorted(set(rows))[:8])
        self.log.write(event="skipped", step=step, epoch=epoch, rows=sorted(set(rows)))
        self.reporter.note(
            f"step {step} is skipped, because its loss or gradient is NaN or Inf; rows: {named}"
        )
        if self.state.bad_in_a_row >= self.options.stop_after_bad:
            raise TrainingError(
                f"{self.state.bad_in_a_row} steps in a row had a NaN or Inf loss or gradient "
                f"(last: step {step}, rows {named}); the weights didn't change in these steps",
                "check these rows, lower train.lr, or set train.precision to fp32",
            )

    # --- validation ---

    def _validate(self) -> None:
        if not self.validation:
            return
        self.clock.lap(TRAINING if self.state.step else PREPARATION)
        values: list[dict[str, float]] = [{}]
        if self.main:
            devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
            self.task.module.eval()
            forked = torch.random.fork_rng(devices=devices)
            with self._guarded("sampling"), forked, torch.no_grad():
                values[0] = self.task.validate(self.validation)
            self.task.module.train()
        broadcast_object_list(values)
        state, monitor = self.state, self.task.monitor
        found = values[0]
        best = False
        if state.step == 0:
            state.base = found
        elif monitor.better(found[monitor.name], state.best.get(monitor.name)):
            best, state.best, state.best_step, state.since_best = True, found, state.step, 0
            self.best_weights = {n: p.detach().clone() for n, p in self.weights.items()}
        else:
            state.since_best += 1
        if self.snapshots.due(math.ceil(state.step / self.every)):
            self._keep(state.step, found)
        self.log.write(step=state.step, validation=found, best=best)
        self.tracker.log({f"validation/{k}": v for k, v in found.items()}, state.step)
        self._show_samples()
        self.reporter.validation(state.step, found, best)
        self.clock.lap(VALIDATION)

    def _show_samples(self) -> None:
        if not (self.main and self.options.tracker_samples and self.tracker.works):
            return
        if isinstance(self.task, ShowsSamples):
            # A recording is the same at every step.
            samples = self.task.samples(sounds=self.state.step == 0)
            self.tracker.log_samples(samples, self.state.step)

    def _keep(self, step: int, values: Mapping[str, float]) -> None:
        if self.main:
            self.snapshots.put(Snapshot(step, self.weights, values))

    # --- saving and resuming ---

    def _stopping(self, stop: StopRequest) -> bool:
        if self.accelerator.num_processes == 1:
            return bool(stop.number)
        flag = torch.tensor([stop.number], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _save(self, finished: str = "") -> None:
        self.state.finished = finished
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        everyone = gather_object([random])
        if self.main:
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.checkpoints / f"step-{self.state.step:07d}",
                Checkpoint(
                    weights=self.weights,
                    best=self.best_weights,
                    state=self.state.__dict__,
                    tensors={
                        "optimizer": self.optimizer.state_dict(),
                        "scheduler": self.scheduler.state_dict(),
                        "scaler": scaler.state_dict() if scaler is not None else {},
                        "random": everyone,
                    },
                ),
            )
            drop_old(self.checkpoints, self.options.keep)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found, damaged = newest(self.checkpoints)
        for path in damaged:
            self.reporter.note(f"checkpoint {path.name} is damaged; the one before it is used")
        if found is None:
            self.log.cut(-1)
            return
        if self.main and not damaged:  # the last save may have failed before it dropped old ones
            drop_old(self.checkpoints, self.options.keep)
        self.state = _State(**found.state)
        self._load_weights(found.weights)
        device = self.accelerator.device
        self.best_weights = {n: t.to(device) for n, t in found.best.items()}
        self.optimizer.load_state_dict(found.tensors["optimizer"])
        self.scheduler.load_state_dict(found.tensors["scheduler"])
        if self.accelerator.scaler is not None and found.tensors["scaler"]:
            self.accelerator.scaler.load_state_dict(found.tensors["scaler"])
        everyone = found.tensors["random"]
        if len(everyone) != self.accelerator.num_processes:
            self.reporter.note(
                f"the run was saved by {len(everyone)} processes and is resumed by "
                f"{self.accelerator.num_processes}: dropout masks will differ"
            )
        random = everyone[self.accelerator.process_index % len(everyone)]
        torch.set_rng_state(random["cpu"])
        if torch.cuda.is_available() and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"])
        self.log.cut(self.state.step)
        if not self.state.finished:
            self.reporter.note(f"resuming after step {self.state.step} of {self.total}")

    def _load_weights(self, saved: Mapping[str, Tensor]) -> None:
        if saved.keys() != self.weights.keys():
            odd = sorted(saved.keys() ^ self.weights.keys())
            raise TrainingError(
                f"the weights in {self.checkpoints} don't match this run's (first: {odd[0]})",
                "choose another --name, or delete the run folder",
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(saved[name])


def _sync_when(sync: bool, accelerator: Accelerator, module: Any) -> Any:
    # DDP should reduce gradients only in the last backward pass of a step.
    from contextlib import nullcontext

    return nullcontext() if sync else accelerator.no_sync(module)
