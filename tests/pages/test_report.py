"""The report: self-contained, escaped, and honest about what an interval says."""

from __future__ import annotations

import base64
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.pages.content import departures, differences, embed
from mmtune.pages.figures import figure, reading
from mmtune.pages.report import write_report

HOSTILE = "<script>alert('x')</script><img src=http://example.com/a.png>"


def measure(difference: Interval, higher: bool = True, **over: Interval) -> Measure:
    given = {"base": Interval(0.2, 0.1, 0.3), "adapter": Interval(0.8, 0.7, 0.9)} | over
    return Measure(
        "term recall", "test", 40, given["base"], given["adapter"], difference, higher, note="note"
    )


class Tags(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.sources += [v or "" for k, v in attrs if k in {"src", "href", "srcset", "data"}]
        if tag not in {"meta", "img", "line", "circle", "polyline", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "demo"
    (folder / "adapter").mkdir(parents=True)
    entries = [{"step": s, "epoch": s / 10, "loss": 3 / s, "lr": 1e-3} for s in range(1, 21)]
    entries += [{"step": 10, "validation": {"wer": 0.4}}, {"step": 20, "validation": {"wer": 0.2}}]
    entries += [{"event": "done", "step": 20}]
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    (folder / "config.yaml").write_text(f'recipe: demo\nname: "{HOSTILE}"\n')
    card = {
        "name": HOSTILE,
        "recipe": "demo",
        "modality": "speech",
        "base": "starter:whisper-tiny.en",
        "base_hash": "ab" * 32,
        "dataset": "cd" * 32,
        "rows": {"train": 80, "test": 10},
        "settings": {},
    }
    (folder / "adapter" / "card.json").write_text(json.dumps(card))
    return folder


def test_self_contained_and_escaped(run: Path, tmp_path: Path) -> None:
    image = run / "grid.png"
    Image.new("RGB", (8, 8), "red").save(image)
    comparison = Comparison(
        "speech",
        [measure(Interval(0.6, 0.5, 0.7))],
        headline=f"headline {HOSTILE}",
        examples=[
            {"id": "a", "reference": "take metformin", "base": "take met foreman", "image": image},
            {"id": HOSTILE, "reference": HOSTILE, "base": HOSTILE + " more"},
        ],
        files={"base, adapter, real": image},
    )
    page = tmp_path / "report.html"
    write_report(page, [comparison], [run])
    html = page.read_text()
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.names
    assert tags.sources
    links = [source for source in tags.sources if not source.startswith("#run")]
    assert all(source.startswith("data:image/png;base64,") for source in links)
    assert not tags.open, "every element is closed"
    assert "&lt;script&gt;" in html
    assert len(links) == 2, "the grid and the example's picture"
    for link in links:
        shown = Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))
        assert shown.convert("RGB").getpixel((3, 3)) == (255, 0, 0)
    assert tags.names.count("polyline") == 2  # training loss, validation wer
    assert tags.names.count("desc") == 2
    for said in ("headline", "starter:whisper-tiny.en", "cdcdcdcd", "0.800 [0.700, 0.900]"):
        assert said in html
    assert "<mark>met foreman</mark>" in html


def test_without_folder_or_measures(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "report.html"
    write_report(page, [Comparison("image", [], headline="nothing measured")])
    assert "nothing measured" in page.read_text()
    with pytest.raises(ValueError, match="1 comparisons but 2"):
        write_report(page, [Comparison("image", [], headline="")], [tmp_path, tmp_path])


def test_reading_follows_the_interval() -> None:
    assert reading(measure(Interval(0.6, 0.5, 0.7))) == "better"
    assert reading(measure(Interval(0.6, 0.5, 0.7), higher=False)) == "worse"
    assert reading(measure(Interval(-0.6, -0.7, -0.5), higher=False)) == "better"
    assert reading(measure(Interval(0.1, -0.1, 0.3))) == "no clear difference"
    nan = Interval(math.nan, math.nan, math.nan)
    assert reading(measure(nan)) == "not defined"
    assert [b.name for b in figure(measure(nan, base=nan)).bars] == ["adapter"]


def test_bars_share_a_scale() -> None:
    base, adapter = figure(measure(Interval(0.6, 0.5, 0.7))).bars
    assert 0 < base.left < base.at < base.left + base.width < adapter.left < adapter.at <= 100
    assert base.at / adapter.at == pytest.approx(0.2 / 0.8, rel=1e-3)  # from zero
    negative = figure(measure(Interval(-1, -1, -1), base=Interval(-0.2, -0.3, -0.1)))
    assert negative.bars[0].left == 0


def test_departures() -> None:
    assert departures("Take Metformin, please", "take metformin please") == [
        ("Take Metformin, please", False)
    ]
    assert departures("take met foreman now", "take metformin now") == [
        ("take", False),
        ("met foreman", True),
        ("now", False),
    ]
    assert differences("take now", "take metformin now") == [
        ("take", "same"),
        ("metformin", "missing"),
        ("now", "same"),
    ]


def test_pictures_lose_their_metadata(tmp_path: Path) -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("prompt", "SECRET place")
    for side in (8, 600):
        path = tmp_path / f"{side}.png"
        Image.new("RGB", (side, side // 2), "red").save(path, pnginfo=told)
        data = base64.b64decode(embed(path, 320).partition(",")[2])
        assert b"SECRET" not in data
        assert max(Image.open(io.BytesIO(data)).size) == min(side, 320)


def test_embed_refuses_what_it_should(tmp_path: Path) -> None:
    for name in ("page.html", "drawing.svg", "data.bin"):
        (tmp_path / name).write_text("<script/>")
        assert embed(tmp_path / name) == ""
    assert embed(tmp_path / "missing.png") == ""
