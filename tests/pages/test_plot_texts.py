"""No text of a plot covers another or leaves the plot: boxes as Chromium measures them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader

import mmtune.pages
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Bin, Measure
from mmtune.pages.axes import BOTTOM, HEIGHT, RIGHT, TOP, WIDTH, nice_ticks
from mmtune.pages.plots import Plot, calibration_plot, group_plots, steps_plot, strengths_plot
from mmtune.pages.text_boxes import Box, box_of, cut, cut_apart, free_place, width_of
from tests.pages.browser import browser

LONG = "Klinik und Poliklinik für Anästhesiologie und Intensivtherapie"
# The boxes of all texts of each plot, its keys included, and the plot's own.
BOXES = """[...document.querySelectorAll('figure.plot')].map(f => {
  const box = e => { const b = e.getBoundingClientRect();
    return [b.left, b.top, b.right, b.bottom, e.textContent]; };
  return [box(f), [...f.querySelectorAll('svg[role] > text, .key')].map(box)]; })"""


def steps(values: list[tuple[float, float]], kept: int | None = None, unit: str = "loss") -> Plot:
    plot = steps_plot("validation", values, unit=unit, kept=kept)
    assert plot is not None
    return plot


def groups(names: list[str], low: float = 0.1, gap: float = 0.01) -> Plot:
    def around(x: float) -> Interval:
        return Interval(x, x - gap, x + gap)

    [plot] = group_plots([
        Measure("WER", f"test, g {n}", 9, around(low + i * gap), around(low), around(0.0), False,
                group=("g", n))
        for i, n in enumerate(names)
    ])  # fmt: skip
    return plot


def strengths(values: list[tuple[float, float]], chosen: float = 1.0, name: str = "style") -> Plot:
    sweep = [
        {"scale": i / (len(values) - 1), "value": value, "retained": kept}
        for i, (value, kept) in enumerate(values)
    ]
    plot = strengths_plot(sweep, name=name, chosen=chosen)
    assert plot is not None
    return plot


def confidence(models: int) -> Plot:
    plot = calibration_plot({
        f"{LONG} {i}": [Bin(0, 1, 0.1 + i / 20, 0.3, 5), Bin(0, 1, 0.9, 0.9, 5)]
        for i in range(models)
    })  # fmt: skip
    assert plot is not None
    return plot


CASES: dict[str, Plot] = {
    "one point": steps([(5, 0.3)]),
    "one point of a million steps": steps([(1_000_000, 1e-9)], kept=1_000_000),
    "two values that are the same": steps([(0, 2.0), (1, 2.0)]),
    "the saved step at the left end": steps([(0, 0.9), (1, 0.1), (2, 0.3)], kept=0),
    "the saved step at the right end": steps([(0, 0.9), (1, 0.3), (2, 0.1)], kept=2),
    "the saved step at the top": steps([(0, 0.1), (1, 0.9), (2, 0.1)], kept=1),
    "many steps": steps([(i, math.sin(i)) for i in range(0, 120_000, 37)]),
    "steps of nine digits": steps([(987_654_321 + i, 1.0 / (1 + i)) for i in range(9)]),
    "tiny numbers": steps([(i, 1e-12 * (1 + i)) for i in range(9)]),
    "huge numbers": steps([(i, -1e15 * (1 + i)) for i in range(9)]),
    "close values": steps([(i, 123_456.0 + i * 1e-4) for i in range(9)]),
    "close and tiny": steps([(i, 1e-9 + i * 1e-14) for i in range(9)]),
    "a long unit": steps([(0, 1.0), (1, 2.0)], unit=f"{LONG} {LONG}"),
    **{
        f"{n} groups": groups([f"group {i}" for i in range(n)]) for n in (2, 3, 5, 8, 12)
    },
    "long names of groups": groups([f"{LONG} {i}" for i in range(4)]),
    "wide letters": groups(["WWWWWWWWWWWWWWWWWWWW", "日本語の話者グループ名前", "Ünïcödé"]),
    "tiny differences of groups": groups(["a", "b"], 1e-7, 1e-9),
    "huge values of groups": groups(["a", "b"], 1e9, 1e7),
    **{
        f"{n} strengths": strengths([(i / n, 1 - i / n) for i in range(n)])
        for n in (2, 3, 4, 6, 8, 12)
    },
    "strengths at one place": strengths([(0.5, 0.9)] * 12, chosen=0.0),
    "close strengths": strengths([(0.5 + i / 1000, 0.9 + i / 900) for i in range(8)]),
    "strengths in the corners": strengths([(0, 0), (1, 1), (0, 1), (1, 0)]),
    "tiny strengths": strengths([(1e-12 * i, 1e-9 * i) for i in range(6)]),
    "huge strengths": strengths([(1e12 * i, 1e9 * i) for i in range(6)]),
    "a long measure": strengths([(0, 0), (1, 1)], name=f"{LONG} {LONG}"),
    **{f"{n} models": confidence(n) for n in (2, 3, 7, 12)},
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The boxes of each case's texts, on a page as wide as a phone and on a wide one."""
    folder = Path(mmtune.pages.__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True)
    style = (folder / "report.css").read_text()
    page = tmp_path_factory.mktemp("plots") / "plots.html"
    draw = environment.from_string(
        '{% from "plot.html.j2" import draw %}<!doctype html><meta charset="utf-8"><meta'
        ' name="viewport" content="width=device-width"><style>{{ style | safe }}</style>'
        '<div class="grid">{% for p in plots %}{{ draw(p, "p" ~ loop.index, frame, {}) }}'
        "{% endfor %}</div>"
    )
    frame = {"width": WIDTH, "height": HEIGHT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
    page.write_text(draw.render(plots=CASES.values(), style=style, frame=frame))
    found: dict[str, Any] = {name: [] for name in CASES}
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.open(page)
        for width in (390, 1280):
            chromium.show(width)
            for name, boxes in zip(CASES, chromium.run(BOXES), strict=True):
                found[name].append(boxes)
    return found


@pytest.mark.parametrize("name", CASES)
def test_no_text_of_a_plot_meets_another(name: str, measured: dict[str, Any]) -> None:
    for figure, texts in measured[name]:
        assert len(texts) > 2
        for place, (left, top, right, bottom, text) in enumerate(texts):
            assert figure[0] <= left, text
            assert right <= figure[2], text
            # A pixel of the font's own margin may lie above another's.
            inner = Box(left + 0.5, top + 1, right - 0.5, bottom - 1)
            for *other, said in texts[place + 1 :]:
                assert not inner.meets(Box(*other)), (text, said)


def test_the_chosen_strength_has_its_label_where_points_are_close() -> None:
    plot = CASES["strengths at one place"]
    assert plot.labels[0].text == "base", "the chosen one"
    assert 1 < len(plot.labels) < 12
    assert f"{12 - len(plot.labels)} points have no label, because they lie close" in plot.note


def test_ticks_of_tiny_and_huge_numbers_differ() -> None:
    for low, high in ((1e-9, 1.00001e-9), (1e-300, 3e-300), (1e15, 9e15), (-5e20, -1e20)):
        labels = [tick.label for tick in nice_ticks(low, high)]
        assert len(labels) > 2
        assert labels == list(dict.fromkeys(labels))
        assert [float(label) for label in labels] == pytest.approx(
            [tick.place for tick in nice_ticks(low, high)], rel=1e-6
        )


def test_texts_are_cut_to_a_width_and_stay_apart() -> None:
    assert cut("short", 100) == "short"
    assert cut("a long name", 60).endswith("…")
    assert width_of(cut(LONG, 90)) <= 90
    found = cut_apart([f"{LONG} {i}" for i in (1, 2)] + ["other"], 130)
    assert [text[-1] for text in found] == ["1", "2", "r"]
    assert all(width_of(text) <= 130 for text in found)


def test_a_label_without_a_free_place_is_left_out() -> None:
    area = Box(0, 0, 200, 60)
    place = free_place(10, 30, "0.5", area, [], [])
    assert place is not None
    x, y, anchor = place
    assert box_of(x, y, "0.5", anchor, bold=True).within(area)
    assert free_place(10, 30, "0.5", area, [area], []) is None
