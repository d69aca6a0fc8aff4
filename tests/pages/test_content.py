"""What a page may show of the items, by the run's policy: planted strings and bytes don't leak."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from mmtune.cli import main
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import Comparison, read_comparison
from mmtune.evaluation.gate_result import GateResult
from mmtune.evaluation.suite import Gate, Selector, Suite
from mmtune.evaluation.verdict import Verdict, judge, write_verdict
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure, Table
from mmtune.pages.redact import NoNames, redact_comparison, redact_verdict
from mmtune.pages.report import content_policy
from mmtune.runs.modalities import find_modality
from mmtune.speech import MODALITY as SPEECH
from mmtune.speech.evaluation.extra_conditions import TIMED
from mmtune.speech.evaluation.long_form import PARTS
from mmtune.speech.evaluation.measures import REAL, WITHOUT_REPEATS

# Each stands in one place of the data alone.
PLACES = (
    *("reference", "base", "adapter", "control", "caption", "row", "file", "speaker", "accent"),
    *("trigger", "folder", "note", "rater", "path", "style", "term"),
    *("older", "side", "voice", "clinic", "nurse", "doctor", "parent"),
)
WORDS = {f"zq{place}" for place in PLACES}
INTERVAL = Interval(0.5, 0.4, 0.6)
SOUND, DRAWN, TRAINED = 1000.0, (12, 200, 99), (201, 13, 98)


def measure(name: str, adapter: float, **over: Any) -> Measure:
    def around(x: float) -> Interval:
        return Interval(x, x - 0.1, x + 0.1)

    return Measure(
        "WER", name, 20, around(0.5), around(adapter), around(adapter - 0.5), False, **over
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "calls"
    data = tmp_path / "zqfolder"
    for inner in (folder / "adapter", folder / "samples", folder / "data", data):
        inner.mkdir(parents=True)
    call, synthetic = (folder / "data" / f"zqfile{i}.wav" for i in range(2))
    time = np.arange(8000) / 8000
    for file in (call, synthetic):
        soundfile.write(file, np.sin(2 * np.pi * SOUND * time) / 3, 8000)
    drawn, trained = folder / "samples" / "a.png", data / "zqfile.png"
    Image.new("RGB", (8, 8), DRAWN).save(drawn)
    Image.new("RGB", (8, 8), TRAINED).save(trained)

    def heard(file: Path, made: bool) -> dict[str, Any]:
        row = {"id": "zqrow", "audio": str(file), "text": "zqreference", "speaker": "zqspeaker"}
        shown = {"row": row, "reference": "zqreference", "base": "zqbase"}
        return {
            "kind": "test",
            **shown,
            "adapter": "zqadapter",
            "made": list(shown) if made else [],
        }

    comparison = Comparison(
        "speech",
        [
            measure("test", 0.1),
            measure("test, accent zqaccent", 0.3, group=("accent", "zqaccent")),
            measure("test, accent other", 0.3, group=("accent", "other")),
            measure("test, accent zqolder, far", 0.3),  # an earlier version named no group
            measure("calls, zqside", 0.3),
            measure("seen terms, zqvoice", 0.3),
            measure("general speech, de", 0.3),
            measure("general speech, de without repeats", 0.3),
            measure("seen terms, real recordings", 0.3),
            measure("calls, zqside without repeats", 0.3),
            measure("test, by accent", 0.3),
            measure("style", float("nan"), note="zqnote.png is near zqpath",
                    references={"real": Interval(1, 0, 2), "zqstyle": Interval(1, 0, 2)}),
        ],
        headline=f"speech calls {folder}/zqpath",
        examples=[
            heard(call, False),
            heard(synthetic, True),
            {"prompt": "zqcaption", "adapter": drawn, "brand": trained, "made": ["adapter"]},
        ],
        files={"zqcaption grid": trained},
        tables=[Table("Spellings", ["term"], [["zqterm"]])],
    )  # fmt: skip
    (folder / "comparison.json").write_text(json.dumps(comparison.to_json()))
    gates = [
        Gate(name="accents", asks="Is it?", metric="WER", slice="test, accent *", at_most=0),
        Gate(name="style", asks="Is it so?", metric="WER", slice="style", at_most=0),
        Gate(
            name="zqclinic",
            asks="Does ZQclinic get it?",
            metric="WER",
            slice="test, clinic zqclinic",
            at_most=0,
        ),
        Gate(
            name="doctors", asks="Does zqdoctor?", metric="WER", slice="calls, zqdoctor*", at_most=0
        ),
        Gate(
            name="nurses", asks="Does the zqnurse?", metric="WER", slice="calls, zqnurse", at_most=0
        ),
    ]
    suite = Suite(
        name="s",
        modality="speech",
        main=(Selector(metric="WER", slice="test"),),
        gates=tuple(gates),
    )
    write_verdict(folder, judge(suite, comparison))
    people = {"zqrater": {"adapter": 3, "base": 1, "same": 0, "bad": 0}}
    review = {"review": "r", "run": "calls", "items": 4, "same": 0, "raters": people}
    both = people["zqrater"] | {"share": 0.75, "low": 0.3, "high": 0.95}
    (folder / "review.json").write_text(json.dumps(review | {"answers": both, "by_item": both}))
    settings = {
        "data": {"path": str(data)},
        "task": {"trigger": "zqtrigger"},
        "train": {"lr": 0.5},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    card = {"name": "calls", "recipe": "dialect", "modality": "speech", "base": "/zqfolder/model",
            "base_hash": "ab" * 32, "dataset": "cd" * 32, "rows": {"test": 3},
            "settings": {"task": {"trigger": "zqtrigger"}},
            "lineage": [{"name": "zqparent", "hash": "ef" * 32}]}  # fmt: skip
    (folder / "adapter" / "card.json").write_text(json.dumps(card))
    return folder


def policy(run: Path, content: str) -> None:
    values = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(values | {"report": {"content": content}}))


def shown(page: Path) -> tuple[set[str], int, set[tuple[int, ...]]]:
    """The planted words in a page, its sounds of the planted tone, its pictures' colours."""
    html = page.read_text()
    data = re.findall(r'src="data:([\w/]+);base64,([^"]+)"', html)
    assert html.count("src=") == len(data), "every source was looked at"
    sounds, colours = 0, set()
    for kind, text in data:
        content = io.BytesIO(base64.b64decode(text))
        if kind.startswith("audio/"):
            samples, rate = soundfile.read(content)
            loudest = int(np.argmax(np.abs(np.fft.rfft(samples))))
            sounds += abs(loudest * rate / len(samples) - SOUND) < 2
        else:
            colours.add(Image.open(content).convert("RGB").getpixel((4, 4)))
    return {word for word in WORDS if word in html.lower()}, sounds, colours


def test_all_shows_what_was_planted(run: Path) -> None:
    assert main(["report", str(run)]) == 0
    words, sounds, colours = shown(run / "report.html")
    # Ids and speakers have no place in it, and of a drawn image the file's name hasn't either.
    assert words == WORDS - {"zqcontrol", "zqrow", "zqfile", "zqspeaker"}
    assert (sounds, colours) == (2, {DRAWN, TRAINED})


@pytest.mark.parametrize("how", ["--redacted", "setting"])
def test_none_shows_none_of_it(run: Path, how: str) -> None:
    whole = run / "report.html"
    main(["report", str(run)])
    before = whole.read_text()
    if how == "setting":
        policy(run, "none")
        assert main(["report", str(run)]) == 0
        page = whole
    else:
        assert main(["report", str(run), "--redacted"]) == 0
        page = run / "report-redacted.html"
        assert whole.read_text() == before, "the team's own page stays"
    assert shown(page) == (set(), 0, set())
    html = page.read_text()
    for kept in ("No items are shown", "-0.400 [-0.500, -0.300]", "person 1", "accent 1",
                 "accent 2", "accent 3", "calls, part ", "seen terms, part ", "general speech, de",
                 "general speech, de without repeats", "seen terms, real recordings",
                 "test, by accent", "0.750 [0.300, 0.950]", "a local folder",
                 "lr&#34;: 0.5"):  # fmt: skip
        assert kept in html, kept
    assert html.count('class="check ') == 7
    assert "<audio" not in html
    assert "<img" not in html


def test_generated_shows_what_models_made_alone(run: Path) -> None:
    policy(run, "generated")
    assert main(["report", str(run)]) == 0
    words, sounds, colours = shown(run / "report.html")
    assert words == {"zqreference", "zqbase"}, "what a voice of nobody said"
    assert (sounds, colours) == (1, {DRAWN})


def test_a_run_s_own_policy_can_only_be_tightened(run: Path, tmp_path: Path) -> None:
    policy(run, "none")
    assert main(["report", str(run), str(run), "--out", str(tmp_path / "both.html")]) == 0
    assert shown(tmp_path / "both.html") == (set(), 0, set())
    policy(run, "some")
    with pytest.raises(ConfigError, match="all, generated or none"):
        content_policy(run)


def test_report_says_what_it_needs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), str(run)]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no such run" in capsys.readouterr().err
    (run / "comparison.json").unlink()
    assert main(["report", str(run)]) == 2
    assert "mmtune train" in capsys.readouterr().err


def test_a_comparison_comes_back(run: Path) -> None:
    again = read_comparison(run)
    assert again.measures[1].group == ("accent", "zqaccent")
    assert again.examples[0]["row"]["speaker"] == "zqspeaker"


def test_a_part_of_a_call_is_played_alone(run: Path) -> None:
    values = json.loads((run / "comparison.json").read_text())
    values["examples"][0]["row"] |= {"start": 0.25, "end": 0.5}
    values["examples"][1]["row"]["audio"] = "/nowhere/zqfile.wav"
    (run / "comparison.json").write_text(json.dumps(values))
    main(["report", str(run)])
    html = (run / "report.html").read_text()
    [sound] = re.findall(r'src="data:audio/flac;base64,([^"]+)"', html)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    assert len(samples) / rate == pytest.approx(0.25, abs=0.01)
    assert "can no longer be read" in html


def test_labels_have_the_same_numbers_in_the_table_and_in_the_verdict() -> None:
    def of(name: str) -> Measure:
        return measure(name, 0.4, group=("accent", name[-1:]))

    def result(name: str) -> GateResult:
        return GateResult("g", "must", "passed", "", "", "WER", name, "difference", "upper")

    order = ["test, accent b", "test, accent a", "test, accent c"]
    # The first label has a second measure, after the others.
    found = Comparison("speech", [of(name) for name in (*order, order[0])], "")
    verdict = Verdict("ship", "s", [], [], result(order[1]), [result(name) for name in order])
    table = [m.slice for m in redact_comparison(found, NoNames()).measures]
    assert table == [f"test, accent {n}" for n in (1, 2, 3, 1)]
    assert [g.slice for g in redact_verdict(verdict, found, NoNames()).gates] == table[:3]


def test_a_modality_says_which_names_are_its_own() -> None:
    names = ["seen terms, in parts", "test, b with times", "test, by speaker", "test, by voice"]
    measures = [
        measure(name, 0.4, references={"real": INTERVAL, "ours": INTERVAL}) for name in names
    ]

    def kept(modality: str) -> list[str]:
        own = find_modality(modality) if modality else NoNames()
        shown = redact_comparison(Comparison("x", measures, ""), own).measures
        return [*(m.slice for m in shown), *shown[0].references]

    others = ["other 1", "other 2"]
    assert kept("") == [
        "seen terms, part 1", "test, part 2", "test, part 3", "test, part 4", *others
    ]  # fmt: skip
    assert kept("speech") == [
        names[0], "test, part 1 with times", names[2], "test, part 2", *others
    ]  # fmt: skip
    assert kept("image")[-2:] == ["real", "other 2"]
    assert REAL in SPEECH.slice_names
    assert PARTS.endswith(f", {SPEECH.slice_names[2]}")
    assert set(SPEECH.slice_endings) == {f" {WITHOUT_REPEATS}", f" {TIMED}"}
