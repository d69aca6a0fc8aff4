"""Groups of speakers, and recordings without speech."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from mmtune.speech.evaluation.extra_conditions import _silence, by_label
from mmtune.speech.evaluation.items import Item
from mmtune.speech.speech_row import SpeechRow


def item(name: int, **group: str) -> Item:
    row = SpeechRow(id=str(name), audio="a", text="t", group=group)
    return Item(row, {}, cluster=name)


def test_groups_are_the_labels_of_the_rows() -> None:
    items = [
        item(i, gender="fm"[i % 2], age=str(20 + i), accent="mandarin", mix="x") for i in range(30)
    ]
    found = {
        f"{label} {value}": some
        for label, values in by_label([*items, item(99)]).items()
        for value, some in values.items()
    }
    assert set(found) == {"gender f", "gender m", "age 20-29", "age 30-39", "age 40-49"}
    assert [len(found[name]) for name in ("gender f", "age 30-39")] == [15, 10]
    assert {i.row.id for i in found["age 20-29"]} == {str(i) for i in range(10)}


def test_identities_are_no_groups() -> None:
    assert by_label([item(i, session=f"s{i}") for i in range(20)]) == {}
    assert by_label([]) == {}


def test_silence_is_the_same_each_time(tmp_path: Path) -> None:
    first = [(r.path.read_bytes(), r.duration_s) for r in _silence(3, tmp_path, "en")]
    again = [(r.path.read_bytes(), r.duration_s) for r in _silence(3, tmp_path, "en")]
    assert first == again
    for row in _silence(3, tmp_path, "en"):
        assert soundfile.info(row.path).duration == pytest.approx(row.duration_s, abs=0.01)
