"""The options of an import: channels of the speakers of a call, and encodings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmtune.errors import ConfigError
from mmtune.speech.corpus.importers import ImportOptions, import_speech


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("agent=0,customer=1", {"agent": 0, "customer": 1}),
        (" Agent = 0 , CUSTOMER=1", {"agent": 0, "customer": 1}),
        ({" Agent": 0, "b": "1"}, {"agent": 0, "b": 1}),
        (" ", {}),
        ({}, {}),
    ],
)
def test_speakers_have_their_channels(given: Any, found: dict[str, int]) -> None:
    assert ImportOptions(speakers=given).speakers == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("agent", "agent=0,customer=1"),
        ("=0", "agent=0,customer=1"),
        ("agent=-1", "agent=0,customer=1"),
        ("agent=\u0661", "agent=0,customer=1"),
        ("agent=0,", "agent=0,customer=1"),
        ("agent=0,agent=1", "twice"),
        ("agent=0,AGENT=1", "twice"),
        ("agent=0,customer=0", "twice"),
        ("agent=99", "less than"),
        ({"agent": 0, "customer": "0"}, "twice"),
        ({"": 0}, "nobody"),
        ({"agent": [0]}, "valid integer"),
        ({"agent": 0.5}, "valid integer"),
        ({0: 1}, "valid string"),
        (3, "valid dictionary"),
        (None, "valid dictionary"),
    ],
)
def test_other_speakers_are_an_error_with_a_cure(given: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        import_speech(tmp_path, tmp_path / "to", settings={"speakers": given})
    assert "--speakers" in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.cure
