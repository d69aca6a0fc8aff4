"""The rows that judge a run, and what is said of too few."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.errors import DataError
from mmtune.image.corpus.evaluation_rows import held_out_rows
from tests.data.pieces import IMAGE, write_image


@pytest.mark.parametrize(
    ("count", "cure"), [(2, "add images: 4 or more are needed"), (8, "--test 0.3")]
)
def test_the_cure_for_too_few_images_can_help(tmp_path: Path, count: int, cure: str) -> None:
    for i in range(count):
        write_image(tmp_path / f"thing {'abcdefgh'[i]}.png", i)
    data = check(tmp_path, IMAGE, DataOptions(validation=0, test=0))
    with pytest.raises(DataError) as caught:
        held_out_rows(data)
    assert cure in caught.value.cure
    assert ("--test" in caught.value.cure) is (count > 3)
