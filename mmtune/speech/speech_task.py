"""`SpeechTask`: what the training loop needs of Whisper; stored encoder states in, losses out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmtune.config import AdapterOptions, LoraOptions
from mmtune.data.rows import Row
from mmtune.errors import DataError
from mmtune.metrics.text.term_finder import TermFinder
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Stage, Tensors
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_row, speech_rows
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.decode import SPOKEN, DecodeOptions, decode
from mmtune.speech.whisper.decoder_lora import attach
from mmtune.speech.whisper.encoder import cut_of, finish
from mmtune.speech.whisper.forward import decode_all
from mmtune.speech.whisper.labels import Labels, make_labels, pad_labels
from mmtune.speech.whisper.loss import LIKELY, frozen_cross_entropy
from mmtune.speech.whisper.prefix import Prefix, attach_prefix
from mmtune.speech.whisper.stages import KEPT, NAME, AudioStage, KeptStage, seconds_of, spoken_times
from mmtune.system.memory import Phase
from mmtune.training.randomness import Draw
from mmtune.training.samples import MAX_SAMPLES, Sample
from mmtune.training.task import Batch, Example, Loss, Monitor, ParamGroup

VALIDATION_BATCH = 32  # number of rows that are decoded together
MAX_UNSPOKEN = 20  # largest number of terms in a prompt that the clip doesn't contain
LISTED = 0.8  # share of the prompts of terms that include the spoken terms
SPARE_IDS = 8  # a row's limit of ids in validation: twice those of its reference, plus this number


class SpeechModule(nn.Module):
    """The trainable part: upper encoder, decoder (both with adapters), projection and loss.

    Args:
        whisper: a `WhisperForConditionalGeneration`.
        cut: number of encoder layers that the stored states have passed; None: all.
        prefix: the trained weights of a prefix, which the decoder reads; None: there is none.
    """

    def __init__(
        self, whisper: Any, cut: int | None = None, prefix: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.cut = cut
        if cut is not None:
            self.encoder = whisper.model.encoder
        if prefix is not None:
            self.prefix = prefix
        self.decoder = whisper.model.decoder
        self.project = whisper.proj_out

    def forward(self, batch: Batch) -> Loss:
        """Sum the loss of each row's text and end token; units are these tokens.

        Args:
            batch: hidden [rows, frames, width]; inputs, targets, mask [rows, length]. With
                `task.keep_base` also likely and probabilities [rows, length, LIKELY], the base's
                prediction, and keep [rows, length], its share in the target.
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
    """Trains an adapter of decoder and upper encoder layers, with cached states of the lower ones.

    Args:
        base: loaded base; its layers get the adapter.
        lora: size and place of the adapter.
        options: language, windows, number of adapted encoder layers and others.
        cache: cache of encoder states; None computes them again each time.
        seed: random seed of the adapter's initial weights.
        recompute: `train.gradient_checkpointing`.
        max_ids: largest number of ids for a row in validation.
        spare_ids: number of ids that a row may have beyond twice its reference's.
        parent: folder of the adapter that training starts from; None: the base.
        adapter: the method, and settings of its own; None: LoRA. A prefix changes no layer of the
            encoder, whatever `options` says.
    """

    monitor = Monitor("wer", higher_is_better=False)

    def __init__(
        self,
        base: WhisperBase,
        lora: LoraOptions,
        options: SpeechOptions,
        cache: PrefixCache | None,
        seed: int = 0,
        recompute: bool = False,
        *,
        max_ids: int = SPOKEN,
        spare_ids: int = SPARE_IDS,
        parent: Path | None = None,
        adapter: AdapterOptions | None = None,
    ) -> None:
        adapter = adapter or AdapterOptions()
        self.base, self.options = base, options
        self.max_ids, self.spare_ids = max_ids, spare_ids
        if recompute:
            base.model.activation_checkpointing_enable({"use_reentrant": False})
        prefixed = adapter.method == "prefix"
        cut = None if prefixed else cut_of(base.model.model.encoder, options.encoder_layers)
        self.stage = AudioStage(base, options.windows, cut, options.views)
        stages: dict[str, Stage] = {NAME: self.stage}
        self.features = Features(stages, cache)
        self.base_hash = base.fingerprint
        self.prefix: Prefix | None = None
        if prefixed:
            self.model, self.prefix = attach_prefix(base, adapter.tokens, seed)
        else:
            self.model = attach(base, lora, seed, cut, parent, adapter)
        self.module: nn.Module = SpeechModule(
            base.model, cut, self.model.prompt_encoder if prefixed else None
        )
        # The adapter, as far as it can be switched off.
        self.kept = KeptStage(self.stage, self.features, self.prefix or self.model, self._bare)
        stages[KEPT] = self.kept
        path = None if options.terms is None else find_terms(options.terms)
        listed = () if path is None else read_terms(path, options.language)
        self.terms = tuple(sorted(term.text for term in listed if term.seen))
        self.find_terms = TermFinder(
            (term.text for term in listed),
            options.language,
            {term.text: term.variants for term in listed},
        )
        self._labels: dict[tuple[str, str | None, float, bool], Labels] = {}
        self._heard: list[tuple[SpeechRow, str]] = []  # the last validation, as far as shown

    def labels(
        self,
        row: SpeechRow,
        prompt: str | None = None,
        speed: float = 1.0,
        timed: bool | None = None,
    ) -> Labels:
        """Return the row's labels; they are made once.

        Args:
            row: whose text is written.
            prompt: text before the row's text; the row's own prompt is ignored.
            speed: speed of the view, by which times are divided.
            timed: whether the text has timestamps; None: as in training of this row.
        """
        timed = self._timed(row) if timed is None else timed
        key = row.id, prompt, speed, timed
        found = self._labels.get(key)
        if found is None:
            spans = self.find_terms(row.reference, row.terms, row.language)
            asked = row.model_copy(update={"prompt": prompt})
            times = spoken_times(row, speed) if timed else ()
            # If some rows teach that nobody speaks, the others must teach that somebody does.
            start = self.options.mix.nonspeech > 0
            found = make_labels(self.base, asked, self.options.language, spans, times, start)
            self._require_room(row, len(found.ids))
            self._labels[key] = found
        return found

    def _require_room(self, row: SpeechRow, ids: int) -> None:
        most = int(self.base.model.config.max_target_positions)
        taken = self.model.active_peft_config.num_virtual_tokens if self.prefix else 0
        if taken and ids > most - taken:
            raise DataError(
                f"row {row.id!r}: its text has {ids} tokens, but a prefix of {taken} leaves "
                f"{most - taken} positions",
                "divide the row, lower adapter.tokens, or choose another adapter.method",
            )

    def _bare(self, row: SpeechRow) -> Labels:
        return self.labels(row)

    def _timed(self, row: SpeechRow) -> bool:
        # Drawn once per row, because the base's prediction is stored for one form of the text.
        return Draw(0, 0, row.id).uniform("timestamps") < self.options.timestamps

    def variants(self, row: Row) -> Iterable[Part]:
        """Return the parts of a row's views; a text that is too long raises before training."""
        row = speech_row(row)
        self.labels(row)
        views = [self.stage.part(row, view) for view in range(self.options.views)]
        return [*views, self.kept.part(row)] if self.options.keep_base else views

    def bucket(self, row: Row) -> str:
        """The row's window: rows of one window are batched together."""
        return f"{self.stage.window(speech_row(row))}s"

    def choose(self, row: Row, draw: Draw) -> Example:
        """Draw one of the row's views, and the prompt before its text."""
        row = speech_row(row)
        audio = self.stage.part(row, draw.integer("view", self.options.views))
        parts = (audio, self.kept.part(row)) if self.options.keep_base else (audio,)
        choices = {"prompt": self._prompt(row, draw), "speed": self.stage.speed(audio)}
        return Example(row, parts, choices)

    def _prompt(self, row: SpeechRow, draw: Draw) -> str | None:
        """Draw a prompt: a list of terms, the text before the row, or none."""
        if self.terms and draw.uniform("term prompt") < self.options.term_prompts:
            spoken = [
                row.reference[a:b] for a, b in self.find_terms(row.reference, (), row.language)
            ]
            others = 1 + draw.integer("others", MAX_UNSPOKEN)
            order = sorted(self.terms, key=lambda term: draw.key(f"term {term}"))
            # Spoken terms are sometimes missing, so that the model takes the list only as a hint.
            listed = spoken * (draw.uniform("listed") < LISTED) + order[:others]
            listed = list(dict.fromkeys(listed))
            return ", ".join(sorted(listed, key=lambda term: draw.key(f"place {term}")))
        given = row.prompt
        return given if given and draw.uniform("prompt") < self.options.prompts else None

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Stack encoder outputs of one window; pad labels to the longest row."""
        labels = [self.labels(speech_row(example.row), **example.choices) for example in examples]
        inputs, targets, mask = pad_labels(labels, self.base.ids["endoftext"])
        hidden = torch.stack([each[NAME]["hidden"] for each in tensors])
        batch = {"hidden": hidden, "inputs": inputs, "targets": targets, "mask": mask}
        if self.options.keep_base:
            rows, length = inputs.shape
            batch["likely"] = torch.zeros(rows, length, LIKELY, dtype=torch.int32)
            batch["probabilities"] = torch.zeros(rows, length, LIKELY)
            batch["keep"] = mask * self.options.keep_base
            for i, each in enumerate(labels):
                place = slice(each.given - 1, each.given - 1 + each.spoken)
                batch["likely"][i, place] = tensors[i][KEPT]["ids"]
                batch["probabilities"][i, place] = tensors[i][KEPT]["probabilities"]
                if each.start is not None:
                    batch["keep"][i, each.start[0]] = 0.0
                # Terms shall be learned. At another speed the base's timestamps don't fit.
                moved = each.times if examples[i].choices["speed"] != 1.0 else ()
                batch["keep"][i, [at - 1 for at in (*each.terms, *moved)]] = 0.0
                if each.silent:  # the base may predict words for silence
                    batch["keep"][i] = 0.0
        return batch

    def param_groups(self) -> list[ParamGroup]:
        """All weights of the adapter, in one group."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Measure the WER of greedy decoding, and the loss per token.

        Decoding of a row stops at about twice the length of its reference.
        """
        metric = WordErrors(self.options.language)
        stats: dict[str, Any] = {}
        loss = units = 0.0
        self._heard = []
        for batch in self._batches(speech_rows(rows)):
            found = self.features.get([self.stage.part(row) for row in batch])
            hidden = torch.stack([each["hidden"] for each in found]).to(self.stage.device)
            labels = [self.labels(row, row.prompt, timed=False) for row in batch]
            prefixes = [each.ids[: each.given] for each in labels]
            # An untuned base repeats itself on some trimmed windows. Without a limit this would
            # take most of the time, and 200 words of one row would dominate the WER.
            most = tuple(min(self.max_ids, 2 * each.spoken + self.spare_ids) for each in labels)
            options = DecodeOptions(max_new_tokens=most)
            spoken = decode(self.base.model, self.stage.finish(hidden), prefixes, options)
            for row, ids in zip(batch, spoken, strict=True):
                text = self.base.text_of(ids)
                stats[row.id] = metric.observe(row, Prediction(row.id, text))
                if len(self._heard) < MAX_SAMPLES:
                    self._heard.append((row, text))
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

    def samples(self, *, sounds: bool) -> list[Sample]:
        """Return what was heard in the shortest rows of the last validation."""
        return [
            Sample(
                row.id,
                row.reference,
                text,
                sound=read_row(row) if sounds else None,
                rate=SAMPLE_RATE,
            )
            for row, text in self._heard
        ]

    def _batches(self, rows: Sequence[SpeechRow]) -> Iterable[list[SpeechRow]]:
        # Clips of similar length end together, so few finished rows stay in a batch.
        groups: dict[int, list[SpeechRow]] = {}
        for row in sorted(rows, key=lambda row: (seconds_of(row), row.id)):
            groups.setdefault(self.stage.window(row), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), VALIDATION_BATCH):
                yield group[start : start + VALIDATION_BATCH]

    def lighter(self, doing: Phase) -> list[str]:
        """List settings that need less memory: trimmed windows, no encoder layers, smaller base."""
        found = []
        if self.options.windows != "trimmed":
            found.append(
                f"--windows trimmed (now {self.options.windows}; fits windows to the clips)"
            )
        if doing == "training" and self.options.encoder_layers:
            found.append(
                f"--encoder_layers 0 (now {self.options.encoder_layers}; adapts only the decoder)"
            )
        return [*found, "a smaller --base"]

    def save(self, folder: Path) -> None:
        """Write a PEFT folder, which `PeftModel.from_pretrained(whisper, folder)` loads."""
        # Without this flag peft asks the hub whether the vocabulary has grown.
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
