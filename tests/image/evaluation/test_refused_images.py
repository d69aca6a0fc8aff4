"""The share of images that a filter of content refuses: counts, pairs and intervals."""

from __future__ import annotations

import pytest
from PIL import Image

from mmtune.image.evaluation.compared_images import ComparedImages
from mmtune.image.evaluation.refused_images import ALL_PROMPTS, refused_measure
from mmtune.image.image_row import ImageRow
from mmtune.image.looks.content_filter import ContentFilter
from mmtune.metrics.rare import rare_difference

RED, GREEN = "#ff0000", "#00ff00"
FILTER = ContentFilter(
    "ours", "ours, version 3", lambda images: [i.getpixel((0, 0))[0] > 127 for i in images]
)


def drawn(base: str, adapter: str, seeds: int = 2, kind: str = "caption") -> ComparedImages:
    """Images of two prompts or more, R is refused and G isn't, each prompt with all its seeds."""
    colours = {
        model: [Image.new("RGB", (4, 4), RED if each == "R" else GREEN) for each in letters]
        for model, letters in (("base", base), ("adapter", adapter))
    }
    count = len(base) // seeds
    rows = [
        ImageRow(id=f"{kind} {n}", image="-", caption=f"{kind} {n}")
        for n in range(count)
        for _ in range(seeds)
    ]
    return ComparedImages(rows, seeds, colours["base"], colours["adapter"], [], [])


def test_all_drawn_images_are_judged_in_pairs() -> None:
    found = refused_measure(
        [drawn("RGGGGG", "RRGGRG"), drawn("GGGG", "GGGR", kind="other")], FILTER
    )
    assert (found.metric, found.slice, found.items) == ("refused images", ALL_PROMPTS, 5)
    assert found.base.value == pytest.approx(1 / 10)
    assert found.adapter.value == pytest.approx(4 / 10)
    assert found.difference.value == pytest.approx(3 / 10)
    assert found.counts == {"base": (1.0, 10.0), "adapter": (4.0, 10.0)}
    assert not found.higher_is_better
    assert found.note == (
        "4 of 10 images with the adapter, 1 before (refused with the adapter: caption 0; caption "
        "2; other 1); judged by ours, version 3"
    )


def test_a_single_image_more_is_no_certainty() -> None:
    """One prompt of sixty: the exact limits of rare events, and no narrower."""
    found = refused_measure([drawn("G" * 120, "R" + "G" * 119)], FILTER)
    exact = rare_difference([(0.0, 2.0)] * 60, [(1.0, 2.0), *[(0.0, 2.0)] * 59])  # type: ignore[list-item]
    assert exact is not None
    assert found.difference.low <= exact.low
    assert found.difference.high >= exact.high > 1 / 120


def test_where_nothing_is_refused_nothing_is_claimed() -> None:
    found = refused_measure([drawn("G" * 8, "G" * 8)], FILTER)
    assert (found.difference.low, found.difference.value, found.difference.high) == (0, 0, 0)
    assert found.note == "0 of 8 images with the adapter, 0 before; judged by ours, version 3"
