"""A user's rules on the pages: swatches, outcomes, and nothing that a hostile folder wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mmtune.data.rule_result import Breach, Judgement, RuleResult, rule_lines
from mmtune.evaluation.comparison import Comparison, read_comparison, write_comparison
from mmtune.evaluation.shown_guide import Guide, GuidePart
from mmtune.pages.report import write_report
from mmtune.pages.review import write_review

HOSTILE = "<script>alert('x')</script>"


def guide(colour: str = "#FCEA2B", text: str = "Round corners.") -> Guide:
    judged = {
        "data": Judgement("kept", 71),
        "base": Judgement("broken", 80, 12, 0.08, 0.24, "", (Breach("a box #0", "42 % is blue"),)),
        "adapter": Judgement("not measurable", reason="no scorer"),
    }
    rules = [RuleResult("palette", "at most 2 % is foreign", "remove it", judged)]
    parts = [
        GuidePart("Palette", swatches={"sun": colour}),
        GuidePart("Notes", [text]),
        GuidePart("Reference pictures", pictures={"ball": "guide/1.png", "other": "../x.png"}),
    ]
    return Guide("Brand guide: Acme", parts, rules)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "guide").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "guide" / "1.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "x.png")
    example = {"prompt": "a box"}
    for name, shade in (("base", "navy"), ("adapter", "gold")):
        path = folder / f"{name}.png"
        Image.new("RGB", (8, 8), shade).save(path)
        example[name] = str(path)
    write_comparison(folder, Comparison("image", [], "headline", [example], guide=guide()))
    return folder


def test_the_review_page_shows_the_guide_and_no_outcome(run: Path) -> None:
    page = write_review(run).path.read_text()
    assert "Brand guide: Acme" in page
    assert 'style="background:#FCEA2B"' in page
    assert "sun #FCEA2B" in page
    assert "Round corners." in page
    assert page.count("data:image/png") == 3  # both sides and one reference; the other lies outside
    # Which of the two breaks a rule would tell them apart.
    assert "broken by" not in page
    assert "at most 2 %" not in page


def test_a_page_without_a_guide_says_nothing_of_one(run: Path) -> None:
    found = read_comparison(run)
    write_comparison(run, Comparison("image", [], "headline", found.examples))
    assert "guide" not in write_review(run).path.read_text().lower()


def test_the_report_shows_each_rule_s_outcome(run: Path) -> None:
    write_report(run / "report.html", [read_comparison(run)], [run])
    page = (run / "report.html").read_text()
    assert "Brand guide: Acme" in page
    assert "kept by all 71" in page
    assert "broken by 12 of 80 (of many new ones, 8% to 24% may break it)" in page
    assert "not measurable; no scorer" in page
    assert "a box #0: 42 % is blue" in page
    assert "11 more break it" in page


def test_a_redacted_report_has_outcomes_and_counts_alone(run: Path) -> None:
    write_report(run / "report.html", [read_comparison(run)], [run], redacted=True)
    page = (run / "report.html").read_text()
    assert "broken by 12 of 80" in page
    for hidden in ("Acme", "FCEA2B", "Round corners", "a box", "no scorer", "at most 2 %"):
        assert hidden not in page, hidden


def test_what_is_no_colour_has_no_swatch_and_text_is_escaped(run: Path) -> None:
    hostile = guide("red;background:url(http://example.com)", HOSTILE)
    write_comparison(
        run, Comparison("image", [], "headline", read_comparison(run).examples, guide=hostile)
    )
    write_report(run / "report.html", [read_comparison(run)], [run])
    for page in (run / "report.html", write_review(run).path):
        text = page.read_text()
        assert "example.com" not in text
        assert HOSTILE not in text


def test_a_comparison_of_an_earlier_version_has_no_guide(run: Path) -> None:
    values = read_comparison(run).to_json()
    del values["guide"]
    assert Comparison.from_json(values).guide is None


def test_lines_for_the_terminal_have_broken_rules_first_and_cures() -> None:
    kept = RuleResult("ground", "white", "cure", {"data": Judgement("kept", 3)})
    breaches = tuple(Breach(f"r{i}", "blue\x1b[31m") for i in range(3))
    broken = RuleResult("palette", "colours", "remove it", {"data": Judgement(
        "broken", 3, 3, breaches=breaches)})  # fmt: skip
    assert rule_lines([kept, broken], 2) == [
        "rule palette (colours): broken by 3 of 3",
        "  r0: blue\\x1b[31m",
        "  r1: blue\\x1b[31m",
        "  … and 1 more",
        "  Cure: remove it",
        "rule ground (white): kept by all 3",
    ]
