"""Whisper's adapters merged into one, and settings of adapters tried out beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mmtune.adapters.members import Merge
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.adapters.routing import Choose
from mmtune.adapters.ways import Trial
from mmtune.errors import DataError
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.metric import Metric
from mmtune.metrics.text.term_recall import TermRecall
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Request
from mmtune.speech.evaluation.compare import divide_terms
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decoder_lora import load_adapters
from mmtune.system.processes import this_process


def merge(request: Merge) -> float:
    """Write a PEFT folder of the merged adapters, in fp32; returns its `distance` as read back.

    Raises:
        AdapterError: a part doesn't load on the base, or the parts can't be merged.
    """
    base = load_base(request.base, this_process().device, torch.float32)
    folders = {f"part {i}": part.folder for i, part in enumerate(request.parts)}
    switch = load_adapters(base, folders)
    parts = {switch.inner[name]: part for name, part in zip(folders, request.parts, strict=True)}
    merge_layers(switch.model.base_model, parts, request.mixing)
    switch.model.peft_config[MERGED].base_model_name_or_path = base.name
    # Otherwise peft asks the hub whether the vocabulary has grown.
    switch.model.save_pretrained(
        str(request.to), selected_adapters=[MERGED], save_embedding_layers=False
    )
    switch.load(MERGED, request.to)
    return distance([base.model], switch.inner[MERGED], parts)


def try_out(
    base: str, adapters: Mapping[str, Path], settings: Mapping[str, Choose], trials: Sequence[Trial]
) -> dict[str, list[str]]:
    """WER of each setting on each trial's test rows, and its recall of what the run has trained.

    Of data without test rows all are heard. All adapters are loaded once, and a clip is encoded
    once. Intervals are of resampled rows.

    Raises:
        DataError: a trial has no usable row.
    """
    predictor = SpeechPredictor(base, adapters)
    columns: dict[str, list[str]] = {}
    for trial in trials:
        options = trial.config.task
        assert isinstance(options, SpeechOptions)
        rows = trial.dataset.split("test") or trial.dataset.rows
        if not rows:
            raise DataError(
                f"{trial.dataset.source} holds no usable row",
                f"mmtune check {trial.dataset.source}",
            )
        heard = predictor.predict(
            [Request(row, choose(row)) for row in rows for choose in settings.values()]
        )
        language = predictor.language or options.language
        metrics: dict[str, Metric] = {"WER": WordErrors(language)}
        seen, _ = divide_terms(options, trial.dataset)
        if seen:
            metrics["term recall"] = TermRecall(seen, language)
        for name, metric in metrics.items():
            cells = []
            for place in range(len(settings)):
                mine = heard[place :: len(settings)]
                stats = [metric.observe(row, each) for row, each in zip(rows, mine, strict=True)]
                cells.append(str(bootstrap(stats, metric.reduce)))
            columns[f"{name}, {trial.name} ({len(rows)} rows)"] = cells
    return columns
