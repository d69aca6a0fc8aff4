"""A test that is drawn from rows without speakers is a finding."""

from __future__ import annotations

import pytest

from mmtune.speech.corpus.check_recording import check_rows
from mmtune.speech.speech_row import SpeechRow


@pytest.mark.parametrize(
    ("count", "more", "warned"),
    [
        (10, {}, True),
        (10, {"split": "train"}, True),
        (9, {}, False),
        (10, {"speaker": "s1"}, False),
        (10, {"split": "test"}, False),
    ],
)
def test_no_speaker_is_a_warning_where_a_test_is_drawn(
    count: int, more: dict[str, str], warned: bool
) -> None:
    rows = [
        SpeechRow.model_validate({"id": str(i), "audio": f"{i}.wav", "text": f"words {i}"})
        for i in range(count)
    ]
    rows[-1] = rows[-1].model_copy(update=more)
    found = [each for each in check_rows(rows) if each.kind == "no-speakers"]
    assert bool(found) is warned
    assert all("the same voice can be in training and test" in each.message for each in found)
