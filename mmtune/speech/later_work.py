"""How long the work after training takes: the rows that it hears, at the measured time of one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mmtune.config import RunConfig
from mmtune.speech.evaluation.robustness import CONDITIONS
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_rows
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.whisper.decode import DecodeOptions, decode, most_ids
from mmtune.speech.whisper.stages import AudioStage, seconds_of
from mmtune.training.estimate import compared_states

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset

MEASURED_ROWS = 4  # that are heard to measure the time of one
LONG_WINDOWS = 5  # windows of a recording of two minutes


def later_work(
    config: RunConfig,
    dataset: Dataset,
    task: SpeechTask,
    validations: int,
    validation_seconds: float,
    load_seconds: float,
) -> tuple[float, float]:
    """Seconds of the comparisons: their answers, at the time of one on a few test rows."""
    options = config.task
    assert isinstance(options, SpeechOptions)
    held, test = len(dataset.split("validation")), speech_rows(dataset.split("test"))
    states = compared_states(config.train.scales, config.train.compare_checkpoints, validations)
    general = options.retention_rows if options.retention is not None else 0
    rows = (held + general) / held if held else 0

    choosing = states * rows * validation_seconds
    if not test:
        return choosing, 0.0
    hear, answer = time_of_one(task, test)
    heard, answers = comparison_answers(options, len(test))
    return choosing, load_seconds + heard * hear + answers * answer  # it loads the base again


def comparison_answers(options: SpeechOptions, test: int) -> tuple[int, int]:
    """How many rows the comparison encodes, and how many answers it decodes of them.

    Args:
        options: settings of the comparison.
        test: test rows.
    """
    models = 2 + (options.control is not None)
    general = options.retention_rows if options.retention is not None else 0
    some, some_general = min(options.probes, test), min(options.probes, general)
    heard = test + general
    if options.probes:  # with times, on other windows, and without speech
        heard += 2 * some + some_general + options.probes
    heard += len(CONDITIONS) * min(options.robustness, test)
    heard += options.long_form * LONG_WINDOWS
    ways = set(options.beside) if options.terms is not None else set()
    # Retrieval decodes twice: without the terms, and with those that it found.
    twice = sum("retrieval" in way for way in ways)
    return heard + len(ways) * test, heard * models + (len(ways) + twice) * test


@torch.no_grad()
def time_of_one(task: SpeechTask, rows: Sequence[SpeechRow]) -> tuple[float, float]:
    """Measure the seconds to encode a row as the comparison does, and those to decode it."""
    options = task.options
    some = rows[:: max(1, len(rows) // MEASURED_ROWS)][:MEASURED_ROWS]
    stage = AudioStage(task.base, options.score_windows, task.stage.cut)
    hear = answer = 0.0
    was_training = task.module.training
    task.module.eval()
    for row in some:  # one by one, because their windows may differ
        began = time.perf_counter()
        [states] = stage.encode([stage.part(row)])
        hidden = states["hidden"][None].to(stage.device)
        heard = time.perf_counter()
        labels = task.labels(row, row.prompt, timed=False)
        most = most_ids(seconds_of(row), task.max_ids)
        search = DecodeOptions(beams=options.beams, max_new_tokens=(most,))
        decode(task.base.model, stage.finish(hidden), [labels.ids[: labels.given]], search)
        hear += heard - began
        answer += time.perf_counter() - heard
    task.module.train(was_training)
    return hear / len(some), answer / len(some)
