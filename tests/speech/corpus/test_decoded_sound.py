"""Audio that `datasets` has decoded to arrays is read with its samples, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmtune.speech.corpus.importers import import_speech
from tests.data.pieces import noise
from tests.speech.corpus.test_cells import rows_of


def saved(folder: Path, cells: list[dict[str, Any]]) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    texts = [f"words {i}" for i in range(len(cells))]
    whole = datasets.Dataset.from_dict({"audio": cells, "text": texts, "speaker": texts})
    whole.save_to_disk(str(folder))
    return folder


def test_arrays_are_read_with_their_samples(tmp_path: Path) -> None:
    samples = noise(1, 0.2).astype(np.float64)
    cells = [
        {"array": samples.tolist(), "sampling_rate": 16_000, "path": path}
        for path in (None, "gone/a.mp3")
    ]
    result = import_speech(saved(tmp_path / "saved", cells), tmp_path / "to")
    assert (result.rows, result.left_out) == (2, ())
    for row in rows_of(tmp_path / "to"):
        found, rate = soundfile.read(tmp_path / "to" / row["audio"])
        assert rate == 16_000
        np.testing.assert_allclose(found, samples, atol=2**-15)


@pytest.mark.parametrize(
    ("array", "rate", "says"),
    [
        ([0.1, 0.2], None, "its sampling_rate is None"),
        ([0.1, 0.2], 0, "its sampling_rate is 0"),
        ([100, 200], 16_000, "isn't a list of floating-point samples"),
        ([[0.1, 0.2]], 16_000, "isn't a list of floating-point samples"),
        ([0.1, float("nan")], 16_000, "isn't a list of floating-point samples"),
    ],
)
def test_arrays_that_are_no_sound_are_refused_with_the_cure(
    tmp_path: Path, array: Any, rate: int | None, says: str
) -> None:
    source = saved(tmp_path / "saved", [{"array": array, "sampling_rate": rate}])
    (found,) = import_speech(source, tmp_path / "to").left_out
    assert says in found.found
    assert 'cast_column("audio", Audio(sampling_rate=...))' in found.cure
