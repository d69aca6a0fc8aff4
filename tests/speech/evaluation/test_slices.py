"""Which items a measure counts: each recording once, and the units that its intervals rest on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmtune.metrics.bootstrap import ENOUGH_CLUSTERS
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.evaluation.items import GENERAL, Item
from mmtune.speech.evaluation.measures import EVERY_ROW, measure, measures
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow


def item(number: int, kind: str = "test", speaker: str | None = None) -> Item:
    row = SpeechRow(
        id=f"{kind} {number}", audio="a.wav", text=f"good morning {number}", speaker=speaker
    )
    heard = {model: Prediction(row.id, row.text) for model in ("base", "adapter")}
    cluster = ("speaker", speaker) if speaker else ("recording", row.id)
    return Item(row, heard, cluster, kind=kind)


def test_hurtful_words_count_each_recording_once() -> None:
    kinds = ["test", GENERAL, "test with times", f"{GENERAL} with times", "test, trimmed windows"]
    kinds += ["degraded: noise", "non-speech", f"{GENERAL}, de"]
    items = [item(n, kind) for kind in kinds for n in range(4)]
    found = {(m.metric, m.slice): m for m in measures(items, set(), set(), SpeechOptions())}
    assert found["hurtful words", EVERY_ROW].items == 4 * 4


@pytest.mark.parametrize("speakers", [5, ENOUGH_CLUSTERS])
def test_recordings_of_nobody_are_no_speakers(speakers: int) -> None:
    said = [item(n, speaker=f"s{n % speakers}") for n in range(60)]
    silent = [replace(item(n), kind="non-speech") for n in range(40)]
    found = measure(WordErrors(), "all", [*said, *silent])
    assert (found.units, found.enough) == (speakers, ENOUGH_CLUSTERS)
    assert bool(found.few) == (speakers < ENOUGH_CLUSTERS)


def test_the_worst_group_is_measured_before_and_after() -> None:
    """Twelve recordings of each accent; the base is worst at one, the adapter at the other."""
    wrong = {"base": {"scots": 2, "welsh": 1}, "adapter": {"scots": 0, "welsh": 1}}
    items = []
    for n in range(24):
        accent = ("scots", "welsh")[n % 2]
        one = item(n, speaker=f"s{n % 8}")
        heard = {
            model: Prediction(
                one.row.id, " ".join(["x"] * count[accent] + ["good morning", str(n)])
            )
            for model, count in wrong.items()
        }
        row = one.row.model_copy(update={"group": {"accent": accent}})
        items.append(replace(one, row=row, heard=heard))
    found = {(m.metric, m.slice): m for m in measures(items, set(), set(), SpeechOptions())}
    worst = found["WER, worst group", "test, by accent"]
    assert (worst.base.value, worst.adapter.value) == pytest.approx((2 / 3, 1 / 3))
    assert worst.difference.value == pytest.approx(-1 / 3)
    assert worst.items == 24
    assert worst.note.startswith("worst: scots with the base, welsh with the adapter")
    assert found["WER gap", "test, by accent"].adapter.value == pytest.approx(1 / 3)
