"""Whisper's decoder as the loop sees it: stored encoder outputs in, per-row losses out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmtune.config import LoraOptions
from mmtune.data.cache import PrefixCache
from mmtune.data.rows import Row
from mmtune.metrics.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.base import WhisperBase
from mmtune.speech.decode import DecodeOptions, decode
from mmtune.speech.forward import decode_all
from mmtune.speech.labels import Labels, make_labels, pad_labels
from mmtune.speech.lora import attach
from mmtune.speech.options import SpeechOptions
from mmtune.speech.stages import NAME, AudioStage, seconds_of
from mmtune.train.draw import Draw
from mmtune.train.prefix import Features
from mmtune.train.task import Batch, Example, Loss, Monitor, ParamGroup, Part, Tensors

VALIDATION_BATCH = 32  # rows decoded together
SPOKEN = 224  # ids a clip can have, as in openai/whisper's `sample_len`
CHUNK = 256  # positions whose logits are held at once


class FrozenCrossEntropy(torch.autograd.Function):
    """Cross-entropy after a frozen projection, without ever holding all logits.

    Whisper's vocabulary of 51,865 makes logits by far the largest tensor of a step. The projection
    gets no gradient, so the one of its input, (softmax - target) @ weight, is taken while a chunk
    of logits is there, and scaled in the backward pass. Apple's Cut Cross-Entropy
    (arXiv 2411.09009) and Liger Kernel (arXiv 2410.10989, section 3.2) do the same.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Losses [n] float32 from hidden [n, width], weight [vocabulary, width], targets [n]."""
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = nn.functional.linear(hidden[part].to(weight.dtype), weight).float()
            picked = logits.gather(1, targets[part, None]).squeeze(1)
            scale = logits.logsumexp(dim=-1)
            losses[part] = scale - picked
            if gradient is not None:
                logits.sub_(scale[:, None]).exp_()
                logits[torch.arange(len(logits), device=logits.device), targets[part]] -= 1
                gradient[part] = (logits.to(weight.dtype) @ weight).to(hidden.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The stored gradient, scaled by each position's own."""
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None].to(gradient.dtype), None, None


class SpeechModule(nn.Module):
    """The trainable path: decoder (with the adapter in its layers), projection, loss."""

    def __init__(self, whisper: Any) -> None:
        super().__init__()
        self.decoder = whisper.model.decoder
        self.project = whisper.proj_out

    def forward(self, batch: Batch) -> Loss:
        """Summed cross-entropy of each row's text and end token; units are those tokens.

        Args:
            batch: hidden [rows, frames, width]; inputs, targets, mask [rows, length].
        """
        hidden = decode_all(self.decoder, batch["inputs"], batch["hidden"])
        mask: Tensor = batch["mask"]
        losses: Tensor = FrozenCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden[mask], self.project.weight, batch["targets"][mask]
        )
        grid = torch.zeros(mask.shape, dtype=losses.dtype, device=losses.device)
        grid = grid.masked_scatter(mask, losses)
        return Loss(total=grid.sum(dim=-1), units=mask.sum(dim=-1).to(losses.dtype))


class SpeechTask:
    """Decoder LoRA on cached encoder outputs.

    Args:
        base: loaded; its decoder gets the adapter.
        lora: the adapter.
        options: language and windows.
        cache: of encoder outputs; None computes them again each time.
        seed: of the adapter's initial weights.
    """

    monitor = Monitor("wer", higher_is_better=False)

    def __init__(
        self,
        base: WhisperBase,
        lora: LoraOptions,
        options: SpeechOptions,
        cache: PrefixCache | None,
        seed: int = 0,
    ) -> None:
        self.base, self.options = base, options
        self.stage = AudioStage(base, options.windows)
        self.stages = {NAME: self.stage}
        self.features = Features(self.stages, cache)
        self.base_hash = base.fingerprint
        self.model = attach(base, lora, seed)
        self.module: nn.Module = SpeechModule(base.model)
        self._labels: dict[str, Labels] = {}

    def labels(self, row: Row) -> Labels:
        """The row's ids, made once."""
        found = self._labels.get(row.id)
        if found is None:
            found = self._labels[row.id] = make_labels(self.base, row, self.options.language)
        return found

    def variants(self, row: Row) -> Iterable[Part]:
        """The row's audio. A text that is too long is found here, before the first step."""
        self.labels(row)
        return [self.stage.part(row)]

    def bucket(self, row: Row) -> str:
        """The row's window."""
        return f"{self.stage.window(row)}s"

    def choose(self, row: Row, draw: Draw) -> Example:
        """The row as it is: nothing is drawn."""
        return Example(row, (self.stage.part(row),))

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Stack encoder outputs of one window; pad labels to the longest row."""
        inputs, targets, mask = pad_labels(
            [self.labels(example.row) for example in examples], self.base.ids["endoftext"]
        )
        hidden = torch.stack([each[NAME]["hidden"] for each in tensors])
        return {"hidden": hidden, "inputs": inputs, "targets": targets, "mask": mask}

    def param_groups(self) -> list[ParamGroup]:
        """The adapter's weights."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Corpus WER of free-running greedy decoding, and the loss for each token."""
        metric = WordErrors(self.options.language)
        stats: dict[str, Any] = {}
        loss = units = 0.0
        for batch in self._batches(rows):
            found = self.features.get([self.stage.part(row) for row in batch])
            hidden = torch.stack([each["hidden"] for each in found])
            labels = [self.labels(row) for row in batch]
            prefixes = [each.ids[: each.given] for each in labels]
            spoken = decode(self.base.model, hidden, prefixes, DecodeOptions(max_new_tokens=SPOKEN))
            for row, ids in zip(batch, spoken, strict=True):
                text = self.base.tokenizer.decode(ids, skip_special_tokens=True).strip()
                stats[row.id] = metric.observe(row, Prediction(row.id, text))
            inputs, targets, mask = pad_labels(labels, self.base.ids["endoftext"])
            device = self.stage.device
            result = self.module(
                {
                    "hidden": hidden.to(device),
                    "inputs": inputs.to(device),
                    "targets": targets.to(device),
                    "mask": mask.to(device),
                }
            )
            loss, units = loss + float(result.total.sum()), units + float(result.units.sum())
        wer = metric.reduce(list(stats.values()))
        return {
            "wer": float("nan") if wer is None else wer,
            "loss": loss / units if units else float("nan"),
        }

    def _batches(self, rows: Sequence[Row]) -> Iterable[list[Row]]:
        # Clips of like length end together, so few finished rows are dragged along.
        groups: dict[int, list[Row]] = {}
        for row in sorted(rows, key=lambda row: (seconds_of(row), row.id)):
            groups.setdefault(self.stage.window(row), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), VALIDATION_BATCH):
                yield group[start : start + VALIDATION_BATCH]

    def save(self, folder: Path) -> None:
        """A plain PEFT folder: `PeftModel.from_pretrained(whisper, folder)` loads it."""
        # Otherwise peft asks the hub whether the vocabulary has grown.
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
