"""The comparison of a modality that has none of its own, of an adapter and of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mmtune.evaluation.paired import MODELS, compare_pairs
from mmtune.predict import Prediction, Request
from mmtune.speech.speech_row import SpeechRow

ROWS = [SpeechRow(id=str(i), audio="a.wav", text="yes please now") for i in range(4)]
SAID = {"": "no", "adapter": "yes please now", "other": "yes please"}


class Said:
    """A predictor whose answer tells which adapter is on."""

    fingerprint = "said"

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        return [Prediction(r.row.id, SAID["".join(r.adapters)]) for r in requests]


@pytest.mark.parametrize(
    ("models", "base"),
    [(MODELS, 1.0), ({"base": {"other": 1.0}, "adapter": {"adapter": 1.0}}, 1 / 3)],
)
def test_both_models_answer_the_same_rows(
    tmp_path: Path, models: Mapping[str, Mapping[str, float]], base: float
) -> None:
    found = compare_pairs("speech", "run", ROWS, ["WER"], tmp_path, Said, "known", models)
    assert found is not None
    [measure] = found.measures
    assert (measure.base.value, measure.adapter.value) == (pytest.approx(base), 0.0)
    assert measure.difference.value == pytest.approx(-base)
