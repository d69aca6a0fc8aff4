"""A brand guide on images of base and adapter: outcomes, counts, intervals, what isn't known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtune.data.rule_result import RuleResult
from mmtune.evaluation.comparison import Comparison, read_comparison, write_comparison
from mmtune.image.evaluation import guide_rules
from mmtune.image.evaluation.compared_images import ComparedImages
from mmtune.image.evaluation.guide_rules import JudgedBy, judge_guide, with_guide
from mmtune.image.evaluation.prompt_measures import unknown_content
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_row import ImageRow
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure

RED, GREEN = "#EA5A47", "#00AA44"
GUIDE = f"""\
brand: Acme
palette: {{red: "{RED}", ink: "#3F3F3F"}}
grounds: [transparent]
forbidden_things: [a gun]
references: [ball.png, gone.png]
notes: Round corners.
"""
CAPTIONS = [f"thing {i}" for i in range(10)]
KEPT, FOREIGN, ELSEWHERE = "kept", "foreign", "elsewhere"


def image(kind: str) -> Image.Image:
    ground = "#F4EBDA" if kind == ELSEWHERE else "white"
    drawn = Image.new("RGB", (32, 32), ground)
    drawn.paste(GREEN if kind == FOREIGN else RED, (8, 8, 24, 24))
    return drawn


def compared(adapter: Sequence[str], seeds: int = 2) -> ComparedImages:
    rows = [ImageRow(id=c, image="-", caption=c) for c in CAPTIONS for _ in range(seeds)]
    kinds = [*adapter, *[KEPT] * (len(rows) - len(adapter))]
    base = [image(KEPT) for _ in rows]
    real = [image(KEPT) for _ in CAPTIONS]
    return ComparedImages(rows, seeds, base, [image(kind) for kind in kinds], real, [])


class Sees:
    """A scorer with one axis for each caption and thing; each image lies where it is told."""

    metric, min_recall = "CLIP score", None

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(len(self.words))[[self.words.index(text) for text in texts]]

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        raise AssertionError("the memoized encoder is used")


def judge(
    folder: Path,
    images: ComparedImages,
    shown: dict[int, str] | None = None,
    real: str = "",
    content: float = 0.5,
) -> tuple[dict[str, RuleResult], list[Measure], Any]:
    """Judge with a scorer that sees `shown` in images of the adapter; None: no scorer."""
    (folder / "brand.yaml").write_text(GUIDE)
    image(KEPT).save(folder / "ball.png")
    options = ImageOptions(brand_guide=folder / "brand.yaml")
    measure = unknown_content(images, "no model judges captions")
    scorer, embed = None, None
    if shown is not None:
        scorer = Sees([*CAPTIONS, "a gun"])
        one = Interval(content, content, content)
        measure = Measure("content", "held-out captions", 10, one, one, one, True, "not valid")
        found = {id(each): row.caption for each, row in zip(images.adapter, images.rows)}  # noqa: B905
        found |= {id(each): row.caption for each, row in zip(images.base, images.rows)}  # noqa: B905
        found |= dict(zip(map(id, images.real), CAPTIONS, strict=True))
        found |= {id(images.adapter[place]): thing for place, thing in shown.items()}
        found |= {id(images.real[0]): real} if real else {}

        def embed(some: Sequence[Image.Image]) -> np.ndarray:
            assert scorer is not None
            return scorer.texts([found[id(each)] for each in some])

    given = judge_guide(options, folder, [], images, JudgedBy(measure, scorer, embed))
    assert given is not None
    guide, measures = given
    return {rule.name: rule for rule in guide.rules}, measures, guide


def test_the_adapter_s_breaches_are_counted_beside_the_base_s(tmp_path: Path) -> None:
    rules, measures, _ = judge(tmp_path, compared([FOREIGN, KEPT, FOREIGN, ELSEWHERE]))
    palette, ground = rules["palette"].judged, rules["ground"].judged
    assert (palette["base"].outcome, palette["base"].broken) == ("kept", 0)
    # Ten prompts without an event: 3 / 10, as with all rare events.
    assert (palette["base"].low, palette["base"].high) == (0, 0.3)
    assert (palette["adapter"].outcome, palette["adapter"].broken) == ("broken", 3)
    assert palette["adapter"].items == 20
    low, high = palette["adapter"].low, palette["adapter"].high
    assert low is not None
    assert high is not None
    assert low <= 3 / 20 <= high < 0.5
    assert [each.item for each in palette["adapter"].breaches] == [
        *("thing 0 #0", "thing 1 #0", "thing 1 #1"),
    ]
    assert GREEN in palette["adapter"].breaches[0].found
    # A drawn picture is opaque: what lies behind transparent parts is its permitted ground.
    assert (ground["base"].outcome, ground["adapter"].broken) == ("kept", 1)
    by_name = {measure.metric: measure for measure in measures}
    assert by_name["off-palette images"].counts == {"base": (0.0, 20.0), "adapter": (3.0, 20.0)}
    assert by_name["off-palette images"].difference.value == pytest.approx(3 / 20)
    assert by_name["wrong grounds"].difference.value == pytest.approx(1 / 20)
    assert "forbidden things" not in by_name


@pytest.mark.parametrize(
    ("drawn", "sentence"),
    [
        ([], "kept by all 20 (of many new ones, up to 30% may break it)"),
        ([ELSEWHERE], "broken by 1 of 20 (of many new ones, up to 18% may break it)"),
        ([ELSEWHERE] * 20, "broken by 20 of 20 (of many new ones, 70% to 100% may break it)"),
    ],
    ids=["none", "one", "all"],
)
def test_the_table_and_the_guide_give_one_interval(
    tmp_path: Path, drawn: list[Any], sentence: str
) -> None:
    rules, measures, _ = judge(tmp_path, compared(drawn))
    [measure] = [each for each in measures if each.metric == "wrong grounds"]
    for model, shown in (("base", measure.base), ("adapter", measure.adapter)):
        judged = rules["ground"].judged[model]
        assert (shown.low, shown.high) == (judged.low, judged.high), model
    assert str(rules["ground"].judged["adapter"]) == sentence
    assert measure.difference.low < measure.difference.high


def test_each_share_is_resampled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = guide_rules.share_interval, []
    monkeypatch.setattr(guide_rules, "share_interval", lambda s: (calls.append(1), plain(s))[1])
    judge(tmp_path, compared([FOREIGN]))
    assert len(calls) == 4  # base and adapter, of the palette and of the ground


def test_things_are_judged_by_a_scorer_that_may_judge(tmp_path: Path) -> None:
    rules, measures, _ = judge(tmp_path, compared([]), {3: "a gun"})
    things = rules["forbidden things"].judged
    assert (things["base"].outcome, things["adapter"].outcome) == ("kept", "broken")
    assert things["adapter"].breaches[0].item == "thing 1 #1"
    assert "goes unseen" in things["base"].reason
    assert measures[-1].counts["adapter"] == (1.0, 20.0)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"shown": None}, "no model judges captions"),
        ({"shown": {}, "content": math.nan}, "not valid"),
        ({"shown": {}, "real": "a gun"}, "CLIP score takes 1 of 10 own images for 'a gun'"),
    ],
    ids=["no scorer", "a scorer that fails its test", "a scorer that takes the brand for it"],
)
def test_what_no_scorer_may_judge_is_not_known(
    tmp_path: Path, given: dict[str, Any], reason: str
) -> None:
    rules, measures, _ = judge(tmp_path, compared([]), **given)
    judged = rules["forbidden things"].judged
    assert {each.outcome for each in judged.values()} == {"not measurable"}
    assert reason in judged["adapter"].reason
    assert "forbidden things" not in {measure.metric for measure in measures}


def test_the_guide_is_kept_with_the_comparison(tmp_path: Path) -> None:
    _, measures, guide = judge(tmp_path, compared([FOREIGN]))
    assert guide.title == "Brand guide: Acme"
    parts = {part.title: part for part in guide.parts}
    assert parts["Palette"].swatches == {"red": RED, "ink": "#3F3F3F"}
    assert parts["Permitted grounds"].texts == ["transparent"]
    assert parts["Notes"].texts == ["Round corners."]
    assert parts["Reference pictures"].pictures == {"ball": "guide/1.png"}
    assert (tmp_path / "guide" / "1.png").is_file()
    found = Comparison("image", measures, "headline", guide=guide)
    write_comparison(tmp_path, found)
    assert read_comparison(tmp_path).guide == guide


def test_a_guide_s_colours_are_the_palette_unless_the_settings_have_one(tmp_path: Path) -> None:
    (tmp_path / "brand.yaml").write_text(GUIDE)
    path = tmp_path / "brand.yaml"
    assert with_guide(ImageOptions(brand_guide=path)).palette == (RED, "#3F3F3F", "#FFFFFF")
    own = ImageOptions(brand_guide=path, palette=("#000000",))
    assert with_guide(own) == own
    assert with_guide(ImageOptions()).palette == ()
