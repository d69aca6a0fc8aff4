"""The report in a browser: its plots are drawn, its sounds play, and it fits a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import load_suite
from mmtune.evaluation.verdict import judge, write_verdict
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Bin, Measure
from mmtune.pages.report import write_report
from mmtune.runs.modalities import play
from tests.pages.browser import Browser, browser

LONG = "donaudampfschifffahrtsgesellschaftskapitaenspatent" * 3

BOXES = """[...document.querySelectorAll(%r)].map(e => {
  const box = e.getBoundingClientRect(); return [box.width, box.height]; })"""
BOTTOMS = "[...document.querySelectorAll(%r)].map(e => e.getBoundingClientRect().bottom)"
# Lengths of title and description of each plot.
TOLD = """[...document.querySelectorAll('figure.plot > svg')].map(s => s.getAttribute(
  'aria-labelledby').split(' ').map(i => document.getElementById(i).textContent.length))"""
# Each text's contrast with what lies behind it (WCAG 2.1), the lowest of all.
CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92
    : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  let lowest = [99, ''];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length
        || ['TITLE', 'DESC', 'STYLE'].includes(e.tagName.toUpperCase())) continue;
    const style = getComputedStyle(e), svg = e instanceof SVGElement;
    let back = e, behind;
    do { behind = rgb(getComputedStyle(back).backgroundColor); back = back.parentElement; }
    while (back && behind[3] === 0);
    const pair = [light(rgb(svg ? style.fill : style.color)), light(behind)].sort((a, b) => b - a);
    const found = (pair[0] + .05) / (pair[1] + .05);
    if (found < lowest[0]) lowest = [found, walk.currentNode.data];
  }
  return lowest; })()"""
# The first table of pictures, scrolled to its end: its box, pictures, captions, names of rows.
SHEET = """(() => {
  const sheet = document.querySelector('.sheet'), box = sheet.parentElement;
  box.scrollLeft = 1e6;
  const names = [...sheet.querySelectorAll('th[scope=row]')];
  const captions = [...sheet.querySelectorAll('thead th span')];
  return { columns: captions.length, inner: box.scrollWidth, box: box.clientWidth,
    narrowest: Math.min(...[...sheet.querySelectorAll('img')].map(i => i.clientWidth)),
    name: names[0].getBoundingClientRect().left, edge: box.getBoundingClientRect().left,
    letters: Math.min(...[...names, ...captions].map(
      e => parseFloat(getComputedStyle(e).fontSize))),
    cut: captions.filter(e => e.scrollHeight > e.clientHeight + 1).map(e => e.textContent) };
})()"""
HEARD = """Promise.all([...document.querySelectorAll('audio')].map(s => new Promise(r => {
  const done = () => r([s.readyState, s.duration]); s.readyState ? done() :
  s.addEventListener('loadedmetadata', done); s.addEventListener('error', done); })))"""


def measure(metric: str, name: str, base: float, gap: float, **over: Any) -> Measure:
    def around(x: float) -> Interval:
        return Interval(x, x - 0.04, x + 0.04)

    return Measure(
        metric, name, 90, around(base), around(base + gap), around(gap), metric != "WER", **over
    )


def speech(folder: Path) -> Comparison:
    folder.mkdir(parents=True)
    wave = np.sin(np.arange(4000) * 0.3).astype("float32") / 3
    soundfile.write(folder / "call.wav", wave, 8000)
    row = {"id": "a", "audio": str(folder / "call.wav"), "text": "take metformin"}
    heard = {"row": row, "reference": f"take metformin {LONG}", "base": "take met foreman",
             "adapter": f"take metformin {LONG}"}  # fmt: skip
    log = [{"step": s, "loss": 3 / s} for s in range(1, 200)]
    log += [{"step": s, "validation": {"wer": 0.9 - s / 300}} for s in (0, 100, 199)]
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in log))
    comparison = Comparison(
        "speech",
        [
            measure("term recall", "seen terms", 0.1, 0.6),
            measure("WER", "test", 0.5, -0.2),
            *(
                measure("WER", f"test, accent {a}", 0.5, -i / 9, group=("accent", a))
                for i, a in enumerate(("indian", LONG, "dutch"))
            ),
        ],
        headline=f"speech {LONG}",
        examples=[{"kind": "most gained", **heard}, {"kind": "as they come", **heard}],
        calibration={"base": [Bin(0, 1, 0.7, 0.5, 90)], "adapter": [Bin(0, 1, 0.7, 0.68, 90)]},
    )
    write_verdict(folder, judge(load_suite("terminology"), comparison))
    return comparison


def images(folder: Path) -> Comparison:
    (folder / "adapter").mkdir(parents=True)
    for name, size in (("grid", (1600, 400)), ("a", (64, 64)), ("b", (700, 500))):
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
    sweep = [
        {"scale": s, "value": s / 2, "low": s / 2 - 0.1, "high": s / 2 + 0.1, "retained": 1 - s / 2,
         "figures": {"style": s / 2}}
        for s in (0, 0.5, 1)
    ]  # fmt: skip
    card = {"name": "brand", "recipe": "brand_style", "modality": "image", "base": "starter:icons",
            "base_hash": "ab", "dataset": "cd", "rows": {"test": 9}, "settings": {},
            "sweep": sweep, "advised": 0.5, "advice": "x"}  # fmt: skip
    (folder / "adapter" / "card.json").write_text(json.dumps(card))
    shown = {"base": folder / "a.png", "adapter": folder / "b.png", "brand": folder / "a.png"}
    comparison = Comparison(
        "image",
        [measure("style", "held-out captions", 0.0, 0.4)],
        headline="image",
        examples=[
            {"kind": "captions", "prompt": f"a red apple with {i} leaves on a table", **shown}
            for i in range(14)
        ],
        files={"grid": folder / "grid.png"},
    )  # fmt: skip
    write_verdict(folder, judge(load_suite("brand_style"), comparison))
    return comparison


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    runs = [folder / "terminology", folder / "brand"]
    write_report(folder / "report.html", [speech(runs[0]), images(runs[1])], runs, play=play)
    return folder / "report.html"


def drawn(chromium: Browser, what: str) -> list[list[float]]:
    found = chromium.run(BOXES % what)
    assert found, what
    boxes: list[list[float]] = found
    return boxes


def test_a_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page)
        chromium.show(1280)
        # Both verdicts are seen without scrolling.
        tops = chromium.run(BOTTOMS % ".verdicts .decision")
        assert len(tops) == 2
        assert all(0 < bottom < 800 for bottom in tops)
        # Statistics are folded.
        assert chromium.run("[...document.querySelectorAll('details')].some(d => d.open)") is False
        chromium.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        # Training loss, validation, groups, confidence; strengths.
        plots = drawn(chromium, "figure.plot > svg")
        assert len(plots) == 5
        assert all(width > 200 and height > 100 for width, height in plots)
        for part in ("svg polyline", "svg .mark", "svg .ring", ".gauge .dot", ".track .dot"):
            assert all(max(box) > 1 for box in drawn(chromium, part)), part
        assert all(min(lengths) > 5 for lengths in chromium.run(TOLD))
        ids = chromium.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len({*ids}) == len(ids)
        heard = chromium.run(HEARD)
        assert len(heard) == 2
        assert all(state >= 1 and length == pytest.approx(0.5, abs=0.01) for state, length in heard)
        assert all(width >= 96 for width, _ in drawn(chromium, ".sheet img"))
        # A table of pictures scrolls in its own box, and the names of its rows stay in sight.
        for width in (390, 1280):
            chromium.show(width)
            found = chromium.run(SHEET)
            assert found["columns"] == 12
            assert found["inner"] > found["box"], "it scrolls"
            assert found["box"] <= width
            assert found["narrowest"] >= 96
            assert found["name"] == pytest.approx(found["edge"], abs=1)
            assert found["letters"] >= 13
            assert found["cut"] == []
        for width in (375, 320, 1280):
            for scheme in ("light", "dark"):
                chromium.show(width, scheme=scheme)
                assert chromium.run("document.documentElement.scrollWidth") <= width, width
                lowest, text = chromium.run(CONTRAST)
                assert lowest >= 4.5, (scheme, text)
        assert chromium.trouble == []
