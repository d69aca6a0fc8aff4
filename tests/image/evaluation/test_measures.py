"""The report card: controls, copies, and what is measured with which encoders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmtune.data.rows import Row
from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.comparison import Comparison
from mmtune.image.corpus.evaluation_rows import evenly_spaced
from mmtune.image.evaluation.compared_images import OUTSIDE_PROMPTS, ComparedImages, memoized
from mmtune.image.evaluation.copies import copies_measure
from mmtune.image.evaluation.measures import (
    adapter_style,
    palette_measure,
    read_controls,
    set_measures,
    style_measures,
)
from mmtune.image.evaluation.prompt_measures import (
    content_measure,
    outside_rows,
    prompt_measure,
)
from mmtune.image.image_row import ImageRow
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.image.style import StyleDistance
from mmtune.metrics.measure import Measure
from mmtune.pages.figures import figure
from mmtune.pages.report import write_report
from mmtune.runs.pipeline import evaluate, train
from tests.image import tiny
from tests.image.looks.test_backbone import clip

__all__ = ["clip"]


def picture(seed: int, ground: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Some blots on a ground."""
    rng = np.random.default_rng(seed)
    pixels = np.full((32, 32, 3), ground, dtype=np.uint8)
    for _ in range(4):
        y, x, h, w = rng.integers(2, 20, 4)
        pixels[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels)


def row(name: str) -> ImageRow:
    return ImageRow(id=name, image=f"{name}.png", caption=name)


def colours(images: object) -> np.ndarray:
    pixels = [np.asarray(i, dtype=np.float64) for i in images]  # type: ignore[attr-defined]
    return np.stack([np.r_[p.mean((0, 1)), p.std((0, 1))] for p in pixels])


def drawn(ground: int = 255) -> ComparedImages:
    """Base on black, adapter on `ground`, brand on white; two seeds of 15 rows."""
    rows = [row(f"r{i}") for i in range(15)]
    return ComparedImages(
        rows=[r for r in rows for _ in range(2)],
        seeds=2,
        base=[picture(i, (0, 0, 0)) for i in range(30)],
        adapter=[picture(100 + i, (ground, ground, ground)) for i in range(30)],
        real=[picture(200 + i) for i in range(15)],
        brand=[picture(300 + i) for i in range(20)],
    )


def test_controls_are_read_by_subfolder(tmp_path: Path) -> None:
    for style, count in (("flat", 3), ("sketch", 120)):
        (tmp_path / style).mkdir()
        for i in range(count):
            picture(i).save(tmp_path / style / f"{i:03}.png")
    (tmp_path / "sketch" / "notes.txt").write_text("not a picture")
    found = read_controls(tmp_path)
    assert {name: len(images) for name, images in found.items()} == {"flat": 3, "sketch": 100}
    assert list(read_controls(tmp_path / "flat")) == ["flat"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds 0 images"):
        read_controls(tmp_path)
    assert evenly_spaced([1, 2, 3, 4, 5], 2) == [1, 3]


def test_controls_stand_beside_the_style_score() -> None:
    images = drawn()
    metric = StyleDistance(memoized(colours), images.brand)
    style = adapter_style(images, metric)
    grey = {"grey": [picture(i, (128, 128, 128)) for i in range(12)]}
    scored, distance = style_measures(images, metric, style, grey)
    assert scored.adapter.value > 0.8
    assert scored.references.keys() == {"base, other seed", "grey"}
    again = scored.references["base, other seed"]
    assert again.low < 0 < again.high
    assert 0.2 < scored.references["grey"].value < 0.8
    assert distance.adapter.value < distance.base.value
    # Where the base is the brand there is no scale, and nothing stands on it.
    same = ComparedImages(images.rows, 2, images.adapter, images.adapter, images.real, images.brand)
    scored = style_measures(same, metric, adapter_style(same, metric), grey)[0]
    assert math.isnan(scored.adapter.value)
    assert scored.references == {}
    assert "as near to the brand as the brand's own held-out images" in scored.note


def test_palette_and_set_distances_follow_the_brand() -> None:
    images = drawn()
    share = palette_measure(images, ["#FFFFFF"])
    assert share.difference.low > 0.3
    assert share.references["real"].value == pytest.approx(share.adapter.value, abs=0.15)
    assert "1 colours, given: #FFFFFF" in share.note
    assert "#FFFFFF" in palette_measure(images, []).note
    metric = StyleDistance(memoized(colours), images.brand)
    diversity, kid = set_measures(images, metric)
    assert diversity.items == 15
    assert kid.difference.high < 0
    assert kid.references["real"].low < kid.adapter.high
    frozen = [picture(i // 2) for i in range(30)]
    stuck = ComparedImages(images.rows, 2, images.base, frozen, images.real, images.brand)
    assert set_measures(stuck, metric)[0].adapter == Interval(0, 0, 0)


def test_what_is_nearer_than_new_images_and_than_the_base_is_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmtune.image.evaluation.copies.MIN_HELD_OUT", 8)
    brand, train = [picture(300 + i) for i in range(6)], [row(f"t{i}") for i in range(6)]
    asked = [(r, seed) for r in train[:2] for seed in range(2)]
    made = [picture(900), ImageOps.mirror(brand[1]), brand[3].resize((64, 64)), picture(901)]
    files = [Path(f"{i}.png") for i in range(4)]
    wanted: list[tuple[Row, int]] = []

    def draw_base(of: Sequence[tuple[Row, int]]) -> list[Image.Image]:
        wanted.extend(of)
        # For the same caption and noise the base draws brand[3], too.
        return [brand[3] if each == asked[2] else picture(990) for each in of]

    real = [picture(2000 + i) for i in range(8)]
    repeats = [brand[0], ImageOps.mirror(brand[2]), real[0]]  # they tell nothing about new ones
    found, copies = copies_measure(asked, made, files, [*real, *repeats], brand, train, draw_base)
    assert found.adapter.value == pytest.approx(0.25)
    [copy] = copies
    assert (copy.image.name, copy.training.name, copy.mirrored) == ("1.png", "t1.png", True)
    assert copy.similarity > 0.98 > copy.base
    assert {(each.id, seed) for each, seed in wanted} == {("t0", 1), ("t1", 0)}
    assert "2 of 4 are more similar" in found.note
    assert "1 of these are also nearer than the base's image, and count (1 mirrored)" in found.note
    assert "1 in 9 new images" in found.note
    assert "(3 more repeat training images or one another)" in found.note
    # Too few different held-out images: the pairs are named, but there is no share.
    monkeypatch.undo()
    found, copies = copies_measure(asked, made, files, real, brand, train, draw_base)
    assert math.isnan(found.adapter.value)
    assert len(copies) == 1
    assert "8 held-out images can't tell copies from new images; 30 are needed" in found.note
    assert "most similar: 1.png and t1.png, mirrored" in found.note


def test_an_image_is_looked_at_once() -> None:
    seen: list[int] = []

    def embed(images: object) -> np.ndarray:
        seen.append(len(images))  # type: ignore[arg-type]
        return colours(images)

    a, b, c = picture(0), picture(1), picture(2)
    embedded = memoized(embed)
    np.testing.assert_array_equal(embedded([a, b, a]), colours([a, b, a]))
    np.testing.assert_array_equal(embedded([c, b]), colours([c, b]))
    assert embedded([a]).shape == (1, 6)
    assert seen == [2, 1]


def test_references_are_kept_and_drawn(tmp_path: Path) -> None:
    some = Interval(0.5, 0.4, 0.6)
    nan = Interval(math.nan, math.nan, math.nan)
    beside = {"real": Interval(0.9, 0.8, 1.0), "unknown <style>": nan}
    measure = Measure("palette", "x", 4, some, some, some, True, references=beside)
    whole = Comparison("image", [measure], "line")
    back = Comparison.from_json(whole.to_json())
    assert back.measures[0].references["real"] == beside["real"]
    assert math.isnan(back.measures[0].references["unknown <style>"].low)
    values = whole.to_json()
    del values["measures"][0]["references"]  # written by an older version
    assert Comparison.from_json(values).measures[0].references == {}
    assert [(b.name, b.kind) for b in figure(measure).bars] == [
        ("base", "base"), ("adapter", "adapter"), ("real", "reference"),
    ]  # fmt: skip
    write_report(tmp_path / "report.html", [whole])
    assert 'class="bar reference"><span class="name">real' in (tmp_path / "report.html").read_text()


class Reads:
    """A scorer whose vectors are colours, and whose captions say which of `known` they mean."""

    metric = "prompt match"

    def __init__(self, known: dict[str, Image.Image], min_recall: float | None) -> None:
        self._known = known
        self.min_recall = min_recall

    def images(self, images: object) -> np.ndarray:
        return colours(images) - 128

    def texts(self, texts: object) -> np.ndarray:
        return self.images([self._known[t] for t in texts])  # type: ignore[attr-defined]


def test_prompt_match_has_no_figures_where_it_may_not_judge() -> None:
    images = drawn()
    own = {r.reference: i for r, i in zip(images.rows[::2], images.real, strict=True)}
    turned = dict(zip(own, [*images.real[7:], *images.real[:7]], strict=True))
    good = Reads(own, 0.5)
    found = prompt_measure(images, good, good.images)
    assert found.metric == "prompt match"
    assert found.references["real"].value == pytest.approx(100)
    assert "recall@3 1.00 of 15 captions" in found.note
    assert math.isfinite(found.difference.low)
    bad = Reads(turned, 0.5)
    found = prompt_measure(images, bad, bad.images)
    assert math.isnan(found.base.value)
    assert math.isnan(found.difference.low)
    assert found.note.startswith("not valid")
    assert found.references == {}


def test_content_is_measured_by_a_scorer_that_knows_the_brands_own_images() -> None:
    rows = [row(f"r{i}") for i in range(24)]
    real = [picture(200 + i) for i in range(24)]
    known = Reads(dict(zip((r.reference for r in rows), real, strict=True)), 0.5)

    def images(adapter: list[Image.Image]) -> ComparedImages:
        return ComparedImages(rows, 1, real, adapter, real, real)

    same = content_measure(images(real), known, known.images)
    assert (same.base.value, same.adapter.value) == pytest.approx((1, 1))
    assert same.difference.value == pytest.approx(0)
    assert same.note.startswith("by prompt match; of 100 halves")
    lost = content_measure(images([*real[5:], *real[:5]]), known, known.images)
    assert lost.adapter.high < 0.4
    assert lost.difference.high < 0
    # A scorer to which all captions are alike judges nothing, whatever it is asked.
    blind = Reads(dict.fromkeys(known._known, real[0]), 0.5)
    found = content_measure(images(real), blind, blind.images)
    assert math.isnan(found.adapter.value)
    assert "can't judge these images" in found.note
    some = ComparedImages(rows[:9], 1, real[:9], real[:9], real[:9], real)
    assert "9 different captions are too few" in content_measure(some, known, known.images).note


def test_what_the_data_shows_is_not_outside_it() -> None:
    rows = outside_rows(("red apple", "dog", "dog", "house"), ["Red  apple", "cat"])
    assert [r.reference for r in rows] == ["dog", "house"]
    assert len({r.content for r in rows}) == 2


def dark(images: Sequence[Image.Image]) -> list[bool]:
    """A filter that refuses dark pictures."""
    return [float(np.asarray(image.convert("L")).mean()) < 128 for image in images]


@pytest.mark.slow
def test_named_encoders_add_their_figures(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand")
    tiny.brand(tmp_path / "others" / "shapes", count=4)
    named = {
        "clip_model": str(clip), "backbone": str(clip), "seeds": "2", "copy_seeds": "1",
        "controls": str(tmp_path / "others"), "palette": "[FF0000, '#0000FF', '008000']",
        "outside_prompts": "[dog, house, sun, tree]", "image_filter": f"{__name__}:dark",
    }  # fmt: skip
    config = tiny.config(tiny.saved("sd"), data, tmp_path / "runs", max_steps="1", **named)
    first = train(config).comparison
    assert [m.metric for m in first.measures] == [
        "style", "style distance", "nearest training image", "palette", "copies", "diversity",
        "KID", "content", "CLIP score", "CLIP score", "CMMD",
        "refused images",
    ]  # fmt: skip
    refused = first.measure_of("refused images", "all prompts")
    assert refused is not None
    drawn = {
        model: [Image.open(path) for path in (config.folder / "samples" / model).glob("*.png")]
        for model in ("base", "adapter")
    }
    assert refused.items == len(drawn["base"]) / 2 + 4
    for model, images in drawn.items():
        assert sum(dark(images)) <= refused.counts[model][0] <= sum(dark(images)) + 8
    assert f"judged by {__name__}:dark, code " in refused.note
    outside = next(m for m in first.measures if m.slice == OUTSIDE_PROMPTS)
    assert outside.items == 2 * 4
    assert outside.references.keys() == {
        "base", "base, others' captions", "own less others' captions",
    }  # fmt: skip
    found = {m.metric: m for m in first.measures if m is not outside}
    assert "3 colours, given: #FF0000 #0000FF #008000" in found["palette"].note
    assert found["CLIP score"].references.keys() == {
        "real", "real, others' captions", "own less others' captions",
    }  # fmt: skip
    assert evaluate(config, fresh=True).to_json() == first.to_json()


def test_settings_of_the_card_are_checked_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        tiny.config(tmp_path, tmp_path, tmp_path, controls=str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="palette"):
        tiny.config(tmp_path, tmp_path, tmp_path, palette="[yellow]")
