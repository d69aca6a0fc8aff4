"""Answers that are kept: what is asked again after a kill, and that figures stay the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtune.evaluation.answers import ANSWERS_FILE, StoredPredictor, forget
from mmtune.image.image_row import ImageRow
from mmtune.predict import Prediction, Request
from mmtune.speech.speech_row import SpeechRow


@dataclass
class Echo:
    """Answers with the row and the adapters, or a picture of noise; counts what it is asked."""

    fingerprint: str = "one"
    images: bool = False
    fails_after: int = 10**9
    asked: list[str] = field(default_factory=list)
    suffix: str = ""

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        found = []
        for request in requests:
            if len(self.asked) >= self.fails_after:
                raise KeyboardInterrupt
            name = f"{request.row.id} {sorted(request.adapters)} {request.seed}{self.suffix}"
            self.asked.append(name)
            value: object = name
            if self.images:
                rng = np.random.default_rng(len(name) + request.seed)
                value = Image.fromarray(rng.integers(0, 255, (6, 5, 3)).astype(np.uint8))
            found.append(Prediction(request.row.id, value, {"window": 30, "language": None}))
        return found

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        return [[place] for place in range(len(requests))]


def requests(count: int = 10) -> list[Request]:
    rows = [SpeechRow(id=f"ä{i}", audio="/a.wav", text="t", content=str(i)) for i in range(count)]
    return [Request(row, weights) for row in rows for weights in ({}, {"adapter": 1.0})]


def stored(folder: Path, echo: Echo, timed: Echo | None = None) -> StoredPredictor[Echo]:
    variants = {"timed": lambda plain: timed or plain}
    return StoredPredictor(folder, "fp", lambda: echo, chunk=4, variants=variants)


def test_after_a_kill_only_the_rest_is_asked(tmp_path: Path) -> None:
    whole = Echo().predict(requests())
    killed = Echo(fails_after=10)  # in the third chunk of four
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, killed).predict(requests())
    assert len((tmp_path / ANSWERS_FILE).read_text().splitlines()) == 8
    again = Echo()
    assert stored(tmp_path, again).predict(requests()) == whole
    assert again.asked == [p.value for p in whole[8:]]


def test_answers_that_are_all_there_need_no_model(tmp_path: Path) -> None:
    first = stored(tmp_path, Echo()).predict(requests())

    def opened() -> Echo:
        raise AssertionError("the model was loaded")

    assert StoredPredictor(tmp_path, "fp", opened).predict(requests()) == first
    forget(tmp_path)
    with pytest.raises(AssertionError, match="was loaded"):
        StoredPredictor(tmp_path, "fp", opened).predict(requests())


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path, cut: int) -> None:
    whole = stored(tmp_path, Echo()).predict(requests())
    path = tmp_path / ANSWERS_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    again = Echo()
    assert stored(tmp_path, again).predict(requests()) == whole
    assert len(again.asked) == (0 if cut == 1 else 1)
    lines = path.read_bytes().split(b"\n")
    last = Echo()
    assert stored(tmp_path, last).predict(requests()) == whole
    assert last.asked == []
    assert sum(line.startswith(b'{"key"') for line in lines) >= 20


def test_what_an_answer_depends_on_is_in_its_key(tmp_path: Path) -> None:
    row = SpeechRow(id="a", audio="/a.wav", text="t", content="c")
    stored(tmp_path, Echo()).predict([Request(row)])
    changed = {
        "moved": (row.model_copy(update={"audio": "/b.wav"}), 0),
        "split": (row.model_copy(update={"split": "test"}), 0),
        "content": (row.model_copy(update={"content": "d"}), 1),
        "prompt": (row.model_copy(update={"prompt": "p"}), 1),
        "span": (row.model_copy(update={"start": 1.0}), 1),
    }
    for name, (other, times) in changed.items():
        echo = Echo()
        stored(tmp_path, echo).predict([Request(other)])
        assert len(echo.asked) == times, name
    for request in (Request(row, {"adapter": 0.5}), Request(row, seed=1)):
        echo = Echo()
        stored(tmp_path, echo).predict([request])
        assert len(echo.asked) == 1
    unread = row.model_copy(update={"content": "", "audio": "/c.wav"})
    for times in (1, 0):
        echo = Echo()
        stored(tmp_path, echo).predict([Request(unread)])
        assert len(echo.asked) == times


def test_a_changed_model_is_asked_for_everything(tmp_path: Path) -> None:
    stored(tmp_path, Echo()).predict(requests(6))
    other = Echo(fingerprint="two")
    stored(tmp_path, other).predict(requests())
    assert len(other.asked) == 20, "none of its predecessor's answers is kept beside its own"


def test_variants_share_the_file_and_not_the_answers(tmp_path: Path) -> None:
    echo, timed = Echo(), Echo(suffix=" timed")
    plain = stored(tmp_path, echo, timed)
    again = plain.variant("timed")
    assert again.predict(requests(2))[0].value.endswith(" timed")
    assert not plain.predict(requests(2))[0].value.endswith(" timed")
    third = stored(tmp_path, Echo(fails_after=0))
    assert third.variant("timed").predict(requests(2))[0].value.endswith(" timed")
    lines = [json.loads(line) for line in (tmp_path / ANSWERS_FILE).read_text().splitlines()]
    assert {"row", "adapters", "text", "details"} <= lines[0].keys()
    assert len({line["key"] for line in lines}) == 8


def test_images_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [ImageRow(id=f"{i}", image="/a.png", caption=f"c{i}") for i in range(3)]
    asked = [Request(row, seed=seed) for row in rows for seed in (0, 1)]
    plain = [np.asarray(p.value) for p in Echo(images=True).predict(asked)]
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, Echo(images=True, fails_after=5)).predict(asked)
    again = Echo(images=True)
    found = stored(tmp_path, again).predict(asked)
    assert len(again.asked) == 2
    for ours, theirs in zip(found, plain, strict=True):
        np.testing.assert_array_equal(np.asarray(ours.value), theirs)
    picture = next((tmp_path / "answers").glob("*.png"))
    picture.unlink()
    lost = Echo(images=True)
    stored(tmp_path, lost).predict(asked)
    assert len(lost.asked) == 1, "an image that is gone is drawn again"
