"""The blind review: nothing in the page tells the sides apart, and answers come back counted."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image, PngImagePlugin

from mmtune.cli import main
from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.comparison import Comparison
from mmtune.pages.preference import RESULT_FILE, count, read_review, stored_review, wilson
from mmtune.pages.review import KEY, write_review
from mmtune.runs.modalities import play
from tests.pages.browser import browser

HOSTILE = "</script><script>alert(1)</script>"


def speech_run(folder: Path, rows: int = 12) -> Path:
    folder.mkdir(parents=True)
    lines = []
    for i in range(rows):
        audio = folder / f"call{i}.wav"
        soundfile.write(audio, np.sin(np.arange(3200) * (0.1 + i / 50)).astype("float32") / 3, 8000)
        base = f"take met foreman {i}" if i else HOSTILE
        lines.append(
            {
                "id": f"row {i}",
                "slice": "test",
                "row": {"id": f"row {i}", "audio": str(audio), "text": "x", "end": 0.2},
                "reference": f"take metformin {i}",
                "base": base,
                "adapter": base if i == rows - 1 else f"take metformin {i}",
            }
        )
    lines.append(lines[0] | {"id": "other", "slice": "general speech"})
    (folder / "predictions.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    write(folder, Comparison("speech", [], "headline"))
    return folder


def write(folder: Path, comparison: Comparison) -> None:
    (folder / "comparison.json").write_text(json.dumps(comparison.to_json()))


def image_run(folder: Path, rows: int = 3) -> Path:
    examples: list[dict[str, Any]] = []
    for i in range(rows):
        example: dict[str, Any] = {"prompt": f"a box {i}"}
        for name, colour in (("base", (i, 0, 0)), ("adapter", (0, i, 99))):
            path = folder / "samples" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            told = PngImagePlugin.PngInfo()
            told.add_text("adapter", f"SECRET {name}")
            Image.new("RGB", (8, 8), colour).save(path, pnginfo=told)
            example[name] = path
        examples.append(example)
    copy = {"prompt": "trained", "adapter": folder / "samples" / "adapter" / "0.png"}
    write(folder, Comparison("image", [], "headline", [copy, *examples]))
    return folder


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found
    values: dict[str, Any] = json.loads(found[1])
    return values


def test_the_page_does_not_tell(tmp_path: Path) -> None:
    run = speech_run(tmp_path / "runs" / "terminology")
    page = write_review(run, items=8, play=play)
    assert (page.items, page.same) == (8, 1)
    html, key = page.path.read_text(), json.loads(page.key.read_text())
    assert page.key == page.path.parent / KEY
    data = data_of(page.path)
    for secret in ("adapter", 'base"', "terminology", "seed", "row 1", str(tmp_path)):
        assert secret not in html, secret
    assert set(data) == {"review", "items"}
    assert data["review"] == key["review"]
    assert all(set(i) == {"id", "reference", "sound", "shown", "a", "b"} for i in data["items"])
    assert sorted(key["sides"].values()) == ["A"] * 4 + ["B"] * 4
    for item in data["items"]:
        mine = "b" if key["sides"][item["id"]] == "B" else "a"
        assert [" ".join(w for w, _ in item[mine])] == [item["reference"]]
        other = item["ab".replace(mine, "")]
        if not item["reference"].endswith(" 0"):
            assert [w for w, differs in other if differs] == ["met foreman"]
            assert [w for w, differs in item[mine] if differs] == ["metformin"]
        content = base64.b64decode(item["sound"].removeprefix("data:audio/flac;base64,"))
        samples, rate = soundfile.read(io.BytesIO(content))
        assert (len(samples), rate) == (3200, 16000), "the row's 0.2 s of 0.4"
    # Nothing is fetched, only the page's own script runs, and words are no markup.
    assert html.count("<script") == 2
    assert HOSTILE not in html
    assert not re.search(r"""(?:src|href)=["']?(?!data:)\w""", html)
    again = write_review(run, items=8, play=play)
    assert again.path.read_text() == html, "the same seed gives the same page"
    with pytest.raises(ConfigError, match="key of another page"):
        write_review(run, items=8, seed=1, play=play)
    other_page = write_review(run, tmp_path / "second" / "review.html", items=8, seed=1, play=play)
    assert data_of(other_page.path)["review"] != data["review"]


def test_pictures_lose_their_metadata(tmp_path: Path) -> None:
    run = image_run(tmp_path / "brand")
    page = write_review(run)
    html, data = page.path.read_text(), data_of(page.path)
    key = json.loads(page.key.read_text())
    assert page.items == 3
    for item in data["items"]:
        for side in "ab":
            content = base64.b64decode(item[side].removeprefix("data:image/png;base64,"))
            assert b"SECRET" not in content
            blue = Image.open(io.BytesIO(content)).getpixel((0, 0))[2]
            assert (blue == 99) == (key["sides"][item["id"]] == side.upper())
    assert "samples" not in html
    moved = tmp_path / "elsewhere" / "brand"
    moved.parent.mkdir()
    shutil.move(run, moved)
    shutil.rmtree(moved / "review")
    assert write_review(moved).items == 3
    shutil.rmtree(moved / "samples" / "base")
    with pytest.raises(DataError, match="is missing"):
        write_review(moved, tmp_path / "x" / "r.html")


def answer(page: Path, to: Path, choose: Callable[[str], str], rater: str = "") -> Path:
    items = data_of(page)
    answers = {i["id"]: c for i in items["items"] if (c := choose(i["id"]))}
    to.write_text(json.dumps({"review": items["review"], "rater": rater, "answers": answers}))
    return to


def test_answers_are_unblinded_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = speech_run(tmp_path / "run")
    assert main(["review", str(run), "--items", "10"]) == 0
    shown = capsys.readouterr().out
    page = run / "review" / "review.html"
    assert shown.splitlines()[0] == str(page)
    assert "1 pairs with equal sides are left out" in shown
    sides = json.loads((page.parent / KEY).read_text())["sides"]
    swap = {"A": "B", "B": "A"}

    def likes(count_: int) -> Callable[[str], str]:
        # The adapter for the first ones, then the base, "same", and nothing.
        def choose(item: str) -> str:
            place = int(item)
            if place <= count_:
                return str(sides[item])
            return {9: "same", 10: ""}.get(place, swap[sides[item]])

        return choose

    ann = answer(page, tmp_path / "ann.json", likes(6), "Ann")
    one = read_review(run, [ann])
    assert (
        one.by_item
        == one.answers
        == one.raters["Ann"]
        == count(["adapter"] * 6 + ["base"] * 2 + ["same"])
    )
    assert one.by_item.share == 0.75
    bob = answer(page, tmp_path / "answers.json", likes(8))
    cat = answer(page, tmp_path / "cat.json", lambda _: "bad", "Cat")
    assert main(["review", str(run), "--answers", str(ann), str(bob), str(cat)]) == 0
    printed = capsys.readouterr().out
    sentence = "1.000 [0.610, 1.000] of 6 decided pairs (3 people)"
    assert f"adapter better in {sentence}: the adapter" in printed
    report = (run / "report.html").read_text()
    assert "People's preferences" in report
    assert sentence in report
    kept = json.loads((run / RESULT_FILE).read_text())
    (run / RESULT_FILE).write_text(json.dumps(kept | {"adapter": "another's"}))
    assert stored_review(run) is None, "of an adapter that isn't there any more"
    assert set(kept["raters"]) == {"Ann", "answers", "Cat"}
    assert kept["answers"]["adapter"] == 14
    # Pairs 7 and 8 have one voice each for base, adapter and bad; 10 has Cat's alone.
    assert {k: kept["by_item"][k] for k in ("adapter", "base", "same", "bad")} == {
        "adapter": 6, "base": 0, "same": 3, "bad": 1,
    }  # fmt: skip
    assert kept["items"] == 10


def test_wrong_answers_are_told(tmp_path: Path) -> None:
    run = speech_run(tmp_path / "run", 4)
    page = write_review(run).path
    good = answer(page, tmp_path / "good.json", lambda _: "A", "Ann")
    twin = answer(page, tmp_path / "twin.json", lambda _: "B", "Ann")
    values = json.loads(good.read_text())
    for name, change in (
        ("choice", {"answers": {"1": "C"}}),
        ("item", {"answers": {"99": "A"}}),
        ("page", {"review": "0" * 16}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(values | change))
    (tmp_path / "broken.json").write_text("{")
    for names, error, found in (
        (["choice"], DataError, "answers.1"),
        (["item"], DataError, "no item '99'"),
        (["page"], ConfigError, "no review_key.json matches"),
        (["good", "page"], DataError, "answers another page"),
        (["good", "twin"], DataError, "already holds the answers of 'Ann'"),
        (["broken"], DataError, "can't be read"),
        (["missing"], ConfigError, "no such file"),
    ):
        with pytest.raises(error, match=found):
            read_review(run, [tmp_path / f"{name}.json" for name in names])
    assert twin.exists()
    assert not (run / RESULT_FILE).exists()
    # Trained again meanwhile: the answers are about another adapter.
    (run / "adapter").mkdir()
    (run / "adapter" / "a.safetensors").write_bytes(b"new")
    page = write_review(run, tmp_path / "new" / "r.html", seed=3).path
    fresh = answer(page, tmp_path / "fresh.json", lambda _: "A")
    assert read_review(run, [fresh], page.parent / KEY).items == 3
    (run / "adapter" / "a.safetensors").write_bytes(b"newer")
    with pytest.raises(ConfigError, match=r"adapter in .* has changed"):
        read_review(run, [fresh], page.parent / KEY)


def test_runs_without_pairs_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="were not compared"):
        write_review(tmp_path)
    write(tmp_path, Comparison("speech", [], "", [{"reference": "a", "base": "b", "adapter": "b"}]))
    with pytest.raises(DataError, match="gave the same for all 1 rows"):
        write_review(tmp_path)
    # A run whose predictions don't name files: its examples, and sound where there is any.
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.zeros(800, "float32"), 8000)
    examples = [
        {"reference": "a", "base": "b", "adapter": "c", "audio": sound},
        {"reference": "d", "base": "", "adapter": "c", "audio": tmp_path / "gone.wav"},
    ]
    write(tmp_path, Comparison("speech", [], "", examples))
    items = {i["reference"]: i for i in data_of(write_review(tmp_path).path)["items"]}
    assert items["a"]["sound"].startswith("data:audio/")
    assert items["d"]["sound"] == ""
    assert [] in (items["d"]["a"], items["d"]["b"])


@pytest.mark.parametrize(
    ("wins", "decided", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_the_published_one(wins: int, decided: int, low: float, high: float) -> None:
    assert wilson(wins, decided) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_a_browser_shows_asks_and_keeps(tmp_path: Path) -> None:
    run = speech_run(tmp_path / "run", 4)
    page = write_review(run, play=play)
    saved = tmp_path / "saved"
    with browser(tmp_path / "profile") as chromium:
        chromium.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        chromium.open(page.path)
        said = "document.getElementById('count').textContent"
        assert chromium.run(said) == "0 of 3 answered, now at pair 1"
        assert chromium.run("document.querySelectorAll('mark').length") >= 1
        heard = (
            "new Promise(r => { const s = document.getElementById('sound');"
            " const done = () => r(s.duration); s.readyState ? done() :"
            " s.addEventListener('loadedmetadata', done); s.addEventListener('error', done); })"
        )
        assert chromium.run(heard) == pytest.approx(0.2, abs=0.01)
        chromium.press("b")
        chromium.run("document.querySelector('[data-choice=same]').click()")
        chromium.run("document.getElementById('back').click()")
        chromium.press("x")
        chromium.run(
            "(() => { const n = document.getElementById('rater'); n.value = 'Ann';"
            " n.dispatchEvent(new Event('input')); })()"
        )
        kept = json.loads(chromium.run("JSON.stringify(Object.entries(localStorage))"))
        review = data_of(page.path)["review"]
        wanted = {"answers": {"1": "B", "2": "bad"}, "rater": "Ann"}
        assert [(slot, json.loads(text)) for slot, text in kept] == [(f"review {review}", wanted)]
        chromium.open(page.path)  # closed and opened again
        assert chromium.run(said) == "2 of 3 answered, now at pair 3"
        chromium.press("ArrowLeft")
        assert chromium.run("!document.getElementById('done').hidden")
        chromium.run("document.getElementById('save').click()")
        for _ in range(100):
            if (saved / "answers.json").is_file():
                break
            chromium.run("new Promise(r => setTimeout(r, 100))")
        assert chromium.trouble == []
    result = read_review(run, [saved / "answers.json"])
    assert list(result.raters) == ["Ann"]
    assert result.by_item.bad == 1
    assert result.by_item.adapter + result.by_item.base == 2
