"""Measure several settings of adapters (each alone, all together, merged) on test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtune.adapters.combinations import TestSet
from mmtune.adapters.routing import Router
from mmtune.errors import DataError
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.metric import Metric
from mmtune.metrics.text.term_recall import TermRecall
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Request
from mmtune.speech.evaluation.term_slices import divide_terms
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import speech_rows
from mmtune.speech.transcription.predictor import SpeechPredictor


def try_out(
    base: str,
    adapters: Mapping[str, Path],
    choices: Mapping[str, Router],
    test_sets: Sequence[TestSet],
) -> dict[str, list[str]]:
    """Measure WER and term recall of each setting on each test set.

    All rows of a test set are used that is `whole` or has no test rows, otherwise its test rows.
    Adapters are loaded once and each clip is encoded once. Confidence intervals resample rows.

    Args:
        base: as for `load_base`.
        adapters: folders by name.
        choices: for each setting, the function that chooses the adapters of a row.
        test_sets: the data, with the configuration of its run.

    Returns:
        Columns of a table by title; a cell for each setting.

    Raises:
        DataError: a test set has no usable row.
    """
    predictor = SpeechPredictor(base, adapters)
    columns: dict[str, list[str]] = {}
    for test_set in test_sets:
        options = test_set.config.task
        assert isinstance(options, SpeechOptions)
        test = () if test_set.whole else test_set.dataset.split("test")
        rows = speech_rows(test or test_set.dataset.rows)
        if not rows:
            raise DataError(
                f"{test_set.dataset.source} holds no usable row",
                f"run mmtune check {test_set.dataset.source} to see why",
            )
        heard = predictor.predict(
            [Request(row, choose(row)) for row in rows for choose in choices.values()]
        )
        language = predictor.language or options.language
        metrics: dict[str, Metric] = {"WER": WordErrors(language)}
        seen, _ = divide_terms(options, test_set.dataset)
        if seen:
            metrics["term recall"] = TermRecall(seen, language)
        for name, metric in metrics.items():
            cells = []
            for place in range(len(choices)):
                mine = heard[place :: len(choices)]
                stats = [metric.observe(row, each) for row, each in zip(rows, mine, strict=True)]
                cells.append(str(bootstrap(stats, metric.reduce)))
            columns[f"{name}, {test_set.name} ({len(rows)} rows)"] = cells
    return columns
