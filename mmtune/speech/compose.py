"""Whisper's adapters merged into one, and settings of adapters tried out beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.compose import Merge
from mmtune.adapters.gate import Choose
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.data.check import check
from mmtune.errors import DataError
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.wer import WordErrors
from mmtune.modality import find_modality
from mmtune.predict import Request
from mmtune.speech.base import load_base
from mmtune.speech.lora import load_adapters
from mmtune.speech.predictor import SpeechPredictor


def merge(request: Merge) -> float:
    """Write a PEFT folder of the merged adapters, in fp32; returns its `distance` as read back.

    Raises:
        AdapterError: a part doesn't load on the base, or the parts can't be merged.
    """
    from accelerate import PartialState

    base = load_base(request.base, PartialState().device, torch.float32)
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
    base: str, adapters: Mapping[str, Path], settings: Mapping[str, Choose], data: Path
) -> tuple[tuple[str, ...], ...]:
    """WER of each setting on the rows of a manifest or folder, all adapters loaded once.

    Its test rows, if it has any; else all. Intervals are of resampled rows.

    Raises:
        DataError: there is no usable row.
    """
    found = check(data, find_modality("speech"))
    rows = found.split("test") or found.rows
    if not rows:
        raise DataError(f"{data} holds no usable row", f"mmtune check {data}")
    predictor = SpeechPredictor(base, adapters)
    heard = predictor.predict(
        [Request(row, choose(row)) for row in rows for choose in settings.values()]
    )
    language = predictor.language or "en"
    metric = WordErrors(language)
    table: list[tuple[str, ...]] = [("adapters", "WER", "rows")]
    for place, name in enumerate(settings):
        mine: list[Any] = heard[place :: len(settings)]
        stats = [metric.observe(row, each) for row, each in zip(rows, mine, strict=True)]
        table.append((name, str(bootstrap(stats, metric.reduce)), str(len(rows))))
    return tuple(table)
