"""Whisper above the cut as the loop sees it: stored encoder states in, per-row losses out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmtune.config import LoraOptions
from mmtune.data.cache import PrefixCache
from mmtune.data.rows import Row
from mmtune.metrics.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.base import WhisperBase
from mmtune.speech.decode import DecodeOptions, decode
from mmtune.speech.encoder import cut_of, finish
from mmtune.speech.forward import decode_all
from mmtune.speech.labels import Labels, make_labels, pad_labels
from mmtune.speech.lora import attach
from mmtune.speech.loss import frozen_cross_entropy
from mmtune.speech.options import SpeechOptions
from mmtune.speech.stages import KEPT, NAME, AudioStage, KeptStage, seconds_of
from mmtune.speech.terms import TermFinder, find_terms, read_terms
from mmtune.train.draw import Draw
from mmtune.train.prefix import Features
from mmtune.train.task import Batch, Example, Loss, Monitor, ParamGroup, Part, Stage, Tensors

VALIDATION_BATCH = 32  # rows decoded together
SPOKEN = 224  # ids a clip can have, as in openai/whisper's `sample_len`
SLACK = 8  # in validation a row is given twice its reference's ids, and so many more


class SpeechModule(nn.Module):
    """The trainable path: upper encoder, decoder (the adapter in their layers), projection, loss.

    Args:
        whisper: a `WhisperForConditionalGeneration`.
        cut: layers of its encoder that stored states have behind them; None: all.
    """

    def __init__(self, whisper: Any, cut: int | None = None) -> None:
        super().__init__()
        self.cut = cut
        if cut is not None:
            self.encoder = whisper.model.encoder
        self.decoder = whisper.model.decoder
        self.project = whisper.proj_out

    def forward(self, batch: Batch) -> Loss:
        """Summed loss of each row's text and end token; units are those tokens.

        Args:
            batch: hidden [rows, frames, width]; inputs, targets, mask [rows, length]; where the
                base is to be kept, also likely and probabilities [rows, length, LIKELY], its own
                prediction, and keep [rows, length], the share of that in the target.
        """
        heard = batch["hidden"]
        if self.cut is not None:
            heard = finish(self.encoder, heard, self.cut)
        hidden = decode_all(self.decoder, batch["inputs"], heard)
        mask: Tensor = batch["mask"]
        kept = keep = None
        if "keep" in batch:
            kept, keep = (batch["likely"][mask], batch["probabilities"][mask]), batch["keep"][mask]
        losses = frozen_cross_entropy(
            hidden[mask], self.project.weight, batch["targets"][mask], kept, keep
        )
        grid = torch.zeros(mask.shape, dtype=losses.dtype, device=losses.device)
        grid = grid.masked_scatter(mask, losses)
        return Loss(total=grid.sum(dim=-1), units=mask.sum(dim=-1).to(losses.dtype))


class SpeechTask:
    """LoRA on the decoder, and on upper layers of the encoder, on cached states from below.

    Args:
        base: loaded; its layers get the adapter.
        lora: the adapter.
        options: language, windows, adapted encoder layers.
        cache: of encoder states; None computes them again each time.
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
        cut = cut_of(base.model.model.encoder, options.encoder_layers)
        self.stage = AudioStage(base, options.windows, cut)
        stages: dict[str, Stage] = {NAME: self.stage}
        self.features = Features(stages, cache)
        self.base_hash = base.fingerprint
        self.model = attach(base, lora, seed, cut)
        self.module: nn.Module = SpeechModule(base.model, cut)
        self.kept = KeptStage(self.stage, self.features, self.model, self.labels)
        stages[KEPT] = self.kept
        listed = () if options.terms is None else read_terms(find_terms(options.terms))
        self.find_terms = TermFinder(term.text for term in listed)
        self._labels: dict[str, Labels] = {}

    def labels(self, row: Row) -> Labels:
        """The row's ids, made once."""
        found = self._labels.get(row.id)
        if found is None:
            spans = self.find_terms(row.reference, getattr(row, "terms", ()))
            found = make_labels(self.base, row, self.options.language, spans)
            self._labels[row.id] = found
        return found

    def variants(self, row: Row) -> Iterable[Part]:
        """The row's audio. A text that is too long is found here, before the first step."""
        self.labels(row)
        return self._parts(row)

    def _parts(self, row: Row) -> tuple[Part, ...]:
        audio = self.stage.part(row)
        return (audio, self.kept.part(row)) if self.options.keep_base else (audio,)

    def bucket(self, row: Row) -> str:
        """The row's window."""
        return f"{self.stage.window(row)}s"

    def choose(self, row: Row, draw: Draw) -> Example:
        """The row as it is: nothing is drawn."""
        return Example(row, self._parts(row))

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Stack encoder outputs of one window; pad labels to the longest row."""
        labels = [self.labels(example.row) for example in examples]
        inputs, targets, mask = pad_labels(labels, self.base.ids["endoftext"])
        hidden = torch.stack([each[NAME]["hidden"] for each in tensors])
        batch = {"hidden": hidden, "inputs": inputs, "targets": targets, "mask": mask}
        if self.options.keep_base:
            kept = [each[KEPT] for each in tensors]
            batch["likely"] = pad_sequence([each["ids"] for each in kept], True)
            batch["probabilities"] = pad_sequence([each["probabilities"] for each in kept], True)
            batch["keep"] = mask * self.options.keep_base
            for i, each in enumerate(labels):
                batch["keep"][i, [at - 1 for at in each.terms]] = 0.0
        return batch

    def param_groups(self) -> list[ParamGroup]:
        """The adapter's weights."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Corpus WER of free-running greedy decoding, cut at twice the reference's length; and the
        loss for each token."""
        metric = WordErrors(self.options.language)
        stats: dict[str, Any] = {}
        loss = units = 0.0
        for batch in self._batches(rows):
            found = self.features.get([self.stage.part(row) for row in batch])
            hidden = torch.stack([each["hidden"] for each in found]).to(self.stage.device)
            labels = [self.labels(row) for row in batch]
            prefixes = [each.ids[: each.given] for each in labels]
            # An untuned base repeats itself on trimmed windows: to follow that would take most of
            # the time, and one row's 200 words would drown the others.
            most = tuple(min(SPOKEN, 2 * (len(e.ids) - e.given) + SLACK) for e in labels)
            options = DecodeOptions(max_new_tokens=most)
            spoken = decode(self.base.model, self.stage.finish(hidden), prefixes, options)
            for row, ids in zip(batch, spoken, strict=True):
                text = self.base.tokenizer.decode(ids, skip_special_tokens=True).strip()
                stats[row.id] = metric.observe(row, Prediction(row.id, text))
            inputs, targets, mask = pad_labels(labels, self.base.ids["endoftext"])
            device = self.stage.device
            result = self.module(
                {
                    "hidden": hidden,
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
