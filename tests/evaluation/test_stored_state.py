"""All stored state is read back equal, and a damaged file is one error with a cure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmtune.adapters.card import Card, read_card
from mmtune.adapters.routing import ROUTE_FILE, Route, read_route
from mmtune.config import read_yaml
from mmtune.data.manifest import read_rows, write_manifest
from mmtune.errors import MmtuneError
from mmtune.evaluation.answers import ANSWERS_FILE, StoredPredictor
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison, named_from, read_comparison
from mmtune.evaluation.gate_result import GateResult
from mmtune.evaluation.suite import Gate, Selector, Suite, load_suite
from mmtune.evaluation.verdict import VERDICT_FILE, Verdict, read_verdict, write_verdict
from mmtune.image.image_row import ImageRow
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Bin, Measure, Table
from mmtune.pages.review import read_model
from mmtune.predict import Prediction, Request
from mmtune.runs.build import build
from mmtune.runs.recipes import load_recipe
from mmtune.speech.corpus.speech_reader import READER
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.system.files import write_json, write_text
from mmtune.system.formats import without_format
from mmtune.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmtune.training.log import RunLog, read_log

PHASES = (Phase.explicit, Phase.generate)  # files are slow to shrink
TEXT = st.text(max_size=8)
NAME = st.text(min_size=1, max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
INTERVAL = st.builds(Interval, NUMBER, NUMBER, NUMBER) | st.just(Interval(*[math.nan] * 3))
MEASURE = st.builds(
    Measure,
    metric=NAME, slice=NAME, items=st.integers(0, 99), base=INTERVAL, adapter=INTERVAL,
    difference=INTERVAL, higher_is_better=st.booleans(), note=TEXT,
    control=st.none() | INTERVAL, references=st.dictionaries(NAME, INTERVAL, max_size=2),
    few=TEXT, p=st.none() | NUMBER, units=st.integers(0, 1000),
    group=st.none() | st.tuples(TEXT, TEXT),
)  # fmt: skip
COMPARISON = st.builds(
    Comparison,
    modality=NAME, measures=st.lists(MEASURE, max_size=2), headline=TEXT,
    examples=st.lists(st.dictionaries(NAME, TEXT | st.integers() | st.none(), max_size=3)),
    files=st.dictionaries(NAME, NAME.filter(lambda t: "\0" not in t).map(Path), max_size=2),
    tables=st.lists(st.builds(Table, TEXT, st.lists(TEXT), st.lists(st.lists(TEXT))), max_size=2),
    speed=st.dictionaries(NAME, NUMBER, max_size=2),
    calibration=st.dictionaries(
        NAME, st.lists(st.builds(Bin, NUMBER, NUMBER, NUMBER, NUMBER, st.integers(1, 9))),
        max_size=2,
    ),
)  # fmt: skip
RESULT = st.builds(
    GateResult,
    name=NAME, level=st.sampled_from(["must", "should"]),
    status=st.sampled_from(["passed", "failed", "not enough data"]),
    asks=TEXT, finding=TEXT, metric=NAME, slice=NAME, of=TEXT, end=TEXT,
    figure=st.none() | st.builds(Interval, NUMBER, NUMBER, NUMBER), bound=st.none() | NUMBER,
    items=st.integers(0, 99), more=st.none() | st.integers(0, 99),
    upward=st.none() | st.booleans(),
)  # fmt: skip
VERDICT = st.builds(
    Verdict,
    decision=st.sampled_from(["ship", "ship with conditions", "not known yet", "keep the base"]),
    suite=TEXT, reasons=st.lists(TEXT), conditions=st.lists(TEXT), main=RESULT,
    gates=st.lists(RESULT, max_size=2),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CARD = st.builds(
    Card,
    name=TEXT, recipe=TEXT, modality=TEXT, base=TEXT, base_hash=TEXT, dataset=TEXT,
    rows=st.dictionaries(TEXT, st.integers()), settings=st.dictionaries(TEXT, JSON, max_size=3),
    validation=st.dictionaries(TEXT, NUMBER), scale=NUMBER, advised=st.none() | NUMBER,
    checkpoint=TEXT,
    versions=st.dictionaries(TEXT, TEXT), created=TEXT,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equality in which an undefined figure equals another."""
    return repr(one) == repr(other)


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(COMPARISON)
def test_a_comparison_is_read_back_equal(tmp_path_factory: Any, found: Comparison) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_json(folder / COMPARISON_FILE, found.to_json())
    assert same(read_comparison(folder), found)


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(VERDICT)
def test_a_verdict_is_read_back_equal(tmp_path_factory: Any, found: Verdict) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_verdict(folder, found)
    assert read_verdict(folder) == found


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(CARD)
def test_a_card_is_read_back_equal(tmp_path_factory: Any, card: Card) -> None:
    folder = tmp_path_factory.mktemp("adapter")
    card.write(folder)
    assert read_card(folder) == card


def test_a_card_with_an_undefined_figure_can_be_read(tmp_path: Path) -> None:
    card = Card(
        name="a", recipe="a", modality="speech", base="b", base_hash="", dataset="", rows={},
        settings={}, validation={"WER": math.nan}, versions={},
    )  # fmt: skip
    card.write(tmp_path)
    assert same(read_card(tmp_path), card)


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(
    st.lists(
        st.builds(
            SpeechRow,
            id=NAME, audio=NAME, text=TEXT, speaker=st.none() | NAME, weight=st.floats(0.1, 9),
            split=st.sampled_from([None, "train", "test"]),
            group=st.dictionaries(NAME, TEXT, max_size=2),
        ),
        min_size=1, max_size=3, unique_by=lambda row: row.id,
    )
)  # fmt: skip
def test_a_manifest_is_read_back_equal(tmp_path_factory: Any, rows: list[SpeechRow]) -> None:
    path = tmp_path_factory.mktemp("data") / "manifest.jsonl"
    write_manifest(path, rows)
    assert read_rows(path, READER) == (rows, [])


@settings(max_examples=10, deadline=None, phases=PHASES)
@given(NAME, st.lists(st.tuples(NAME, NAME, NUMBER), max_size=3, unique_by=lambda g: g[0]))
def test_a_suite_is_read_back_equal(
    tmp_path_factory: Any, name: str, gates: list[tuple[str, str, float]]
) -> None:
    suite = Suite(
        name=name,
        modality="speech",
        main=(Selector(metric=name, slice=name),),
        gates=tuple(Gate(name=n, asks=a, metric=n, slice=a, at_most=b) for n, a, b in gates),
    )
    path = tmp_path_factory.mktemp("suite") / "suite.yaml"
    write_text(path, suite.dump())
    assert load_suite(str(path)) == suite


@settings(max_examples=10, deadline=None, phases=PHASES)
@given(st.text(min_size=1, max_size=20), st.floats(1e-9, 1e9), st.integers(0, 2**32 - 1))
def test_settings_are_read_back_equal(
    tmp_path_factory: Any, base: str, lr: float, seed: int
) -> None:
    config = load_recipe("dialect", {"base": "b", "name": "2024-01-31", "train.seed": seed})
    train = config.train.model_copy(update={"lr": lr})
    config = config.model_copy(update={"base": base, "train": train})
    path = tmp_path_factory.mktemp("run") / "config.yaml"
    write_text(path, config.dump())
    assert build(without_format(read_yaml(path), path), "", SpeechOptions, {}) == config


@settings(max_examples=5, deadline=None, phases=PHASES)
@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_a_checkpoint_is_read_back_equal(tmp_path_factory: Any, state: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("run") / "step-1"
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0)}
    for value in (state, {}):
        save_checkpoint(folder, Checkpoint(weights, {}, value, {"rng": torch.zeros(3)}))
        found = load_checkpoint(folder)
        assert found is not None
        assert found.state == value
        assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


@settings(max_examples=10, deadline=None, phases=PHASES)
@given(st.lists(st.dictionaries(NAME, JSON, max_size=3), max_size=3))
def test_a_log_is_read_back_equal(tmp_path_factory: Any, entries: list[dict[str, Any]]) -> None:
    log = RunLog(tmp_path_factory.mktemp("run") / "log.jsonl", active=True)
    for entry in entries:
        log.write(**entry)
    assert (read_log(log.path) if entries else []) == entries


@dataclass
class Drawer:
    """Answers with a picture, or with text; counts what it is asked."""

    pictures: bool
    asked: int = 0
    fingerprint: str = "one"

    def predict(self, requests: Any) -> list[Prediction]:
        self.asked += len(requests)
        value = Image.new("RGB", (8, 8), (9, 8, 7)) if self.pictures else "text \udcff ä"
        return [Prediction(each.row.id, value) for each in requests]

    def batches(self, requests: Any) -> list[list[int]]:
        return [[i] for i in range(len(requests))]


def asked_again(folder: Path, drawer: Drawer) -> list[Prediction]:
    row = ImageRow(id="a", image="a.png", caption="a", content="0")
    predictor = StoredPredictor(folder, "fp", lambda: drawer)
    with predictor.asking():
        return predictor.predict([Request(row, {}), Request(row, {"adapter": 1.0})])


@pytest.mark.parametrize("pictures", [False, True])
def test_answers_are_read_back_equal(pictures: bool, tmp_path: Path) -> None:
    drawer = Drawer(pictures)
    first, second = asked_again(tmp_path, drawer), asked_again(tmp_path, drawer)
    assert drawer.asked == 2
    values = [
        [p.value.tobytes() if pictures else p.value for p in found] for found in (first, second)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\nhalf", b"\xff" * 900])
def test_a_damaged_picture_is_drawn_again(damage: bytes, tmp_path: Path) -> None:
    drawer = Drawer(pictures=True)
    first = asked_again(tmp_path, drawer)
    one, _ = sorted((tmp_path / "answers").iterdir())
    one.write_bytes(damage)
    assert [p.value.tobytes() for p in asked_again(tmp_path, drawer)] == [
        p.value.tobytes() for p in first
    ]
    assert drawer.asked == 3


def test_a_damaged_line_of_answers_is_asked_again(tmp_path: Path) -> None:
    drawer = Drawer(pictures=False)
    asked_again(tmp_path, drawer)
    path = tmp_path / ANSWERS_FILE
    path.write_bytes(b"\xff\xfe" + path.read_bytes()[2:])
    asked_again(tmp_path, drawer)
    assert drawer.asked == 3


def as_stored(folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Each file of JSON or YAML that mmtune writes, and its reader."""
    (folder / "adapter").mkdir()
    return {
        "comparison": (folder / COMPARISON_FILE, lambda: read_comparison(folder)),
        "verdict": (folder / VERDICT_FILE, lambda: read_verdict(folder)),
        "card": (folder / "adapter" / "card.json", lambda: read_card(folder / "adapter")),
        "route": (folder / ROUTE_FILE, lambda: read_route(folder)),
        "settings": (folder / "config.yaml", lambda: load_recipe(str(folder / "config.yaml"))),
        "suite": (folder / "suite.yaml", lambda: load_suite(str(folder / "suite.yaml"))),
        "answers of people": (folder / "a.json", lambda: read_model(folder / "a.json", Route)),
    }


DAMAGE = {
    "no UTF-8": b"\xff\xfe{}",
    "cut off": b'{"format": 1, "name": "a',
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "an object without its keys": b"{}",
    "wrong types": json.dumps(
        dict.fromkeys(("measures", "main", "rows", "labels", "modality", "gates", "train"), 7)
    ).encode(),
    "deep": b"[" * 100_000,
    "a number of 5,000 digits": b'{"format": %s}' % (b"9" * 5_000),
    "an unknown format": b'{"format": "new"}',
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["comparison", "verdict", "card", "route", "settings", "suite", "answers of people"]
)
def test_a_damaged_file_is_one_error_with_a_cure(file: str, damage: str, tmp_path: Path) -> None:
    path, read = as_stored(tmp_path)[file]
    path.write_bytes(DAMAGE[damage])
    with pytest.raises(MmtuneError) as caught:
        read()
    assert str(path) in caught.value.found
    assert caught.value.cure
    assert len(str(caught.value)) < 1_000


def test_paths_in_examples_are_named_from_the_run(tmp_path: Path) -> None:
    """Only a manifest's row holds paths as texts; any other text stays as it is."""
    row = {"audio": str(tmp_path / "data" / "a.wav"), "text": "x", "weight": 1.0}
    example = {
        "row": row,
        "output": tmp_path / "b.png",
        "heard": str(tmp_path),
        "more": {"a": "/b"},
    }
    found = named_from(Comparison("x", [], "", examples=[example]), tmp_path).examples[0]
    assert found["row"] == row | {"audio": "data/a.wav"}
    assert str(found["output"]) == "b.png"
    assert (found["heard"], found["more"]) == (example["heard"], example["more"])
