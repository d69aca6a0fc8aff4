"""The estimate of a whole command, by hand: nothing here is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.errors import DataError
from mmtune.runs.recipes import configure
from mmtune.speech.later_work import comparison_answers
from mmtune.speech.speech_options import SpeechOptions
from mmtune.system.display import duration
from mmtune.training.estimate import Estimate, LaterWork, compared_states, estimate
from mmtune.training.log import read_log
from mmtune.training.loop import fit
from mmtune.training.reporter import Reporter
from tests.training.test_loop import options
from tests.training.toy import ToyTask, rows

LATER = LaterWork(100.0, 24.0, 40.0)


def test_the_phases_add_up() -> None:
    found = estimate(
        steps=200, step_seconds=0.5, validations=5, validation_seconds=8.0, later=LATER, now=130.0
    )
    assert dict(found.phases) == {
        "preparation": 22.0,  # 30 s so far, of which 8 s are the first validation
        "training": 100.0,
        "validation": 40.0,
        "choosing the strength": 24.0,
        "comparison": 40.0,
    }
    assert found.seconds == 226.0
    assert found.line() == (
        "estimate   3 min 46 s for the whole command: preparation 22 s, training 1 min 40 s, "
        "validation 40 s, choosing the strength 24 s, comparison 40 s"
    )


def test_several_processes_share_the_comparison() -> None:
    given = {"steps": 1, "step_seconds": 1.0, "validations": 0, "validation_seconds": 0.0}
    found = estimate(**given, later=LATER, processes=4, now=100.0)  # type: ignore[arg-type]
    assert found.phases["comparison"] == 10.0
    assert "validation" not in found.line()
    assert "preparation" not in found.line()


@pytest.mark.parametrize(
    ("scales", "kept", "validations", "states"),
    [
        ((1.0,), 0, 9, 0),
        ((0.5, 1.0), 0, 9, 3),
        ((0.25, 0.5, 0.75, 1.0), 0, 9, 5),
        ((1.0,), 4, 9, 5),
        ((0.5, 1.0), 4, 2, 6),
        ((1.0,), 4, 1, 0),  # one checkpoint is compared with none
    ],
)
def test_the_states_that_are_compared(
    scales: tuple[float, ...], kept: int, validations: int, states: int
) -> None:
    assert compared_states(scales, kept, validations) == states


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.2, "1 s"),
        (59.0, "59 s"),
        (59.2, "1 min"),
        (7200.0, "2 h"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
    ],
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("values", "test", "answers"),
    [
        # Base and adapter on each row.
        ({"probes": 0}, 50, (50, 100)),
        ({"probes": 0, "control": "c"}, 50, (50, 150)),
        ({"probes": 0, "retention": "r", "retention_rows": 30}, 50, (80, 160)),
        # Each way of `beside` hears the test rows once more, and retrieval decodes twice.
        ({"probes": 0, "terms": "t", "beside": ["prompt", "retrieval"]}, 50, (150, 250)),
        # With times, on other windows, and recordings without speech.
        ({"probes": 10}, 50, (80, 160)),
        ({"probes": 10}, 4, (4 + 8 + 10, 2 * (4 + 8 + 10))),
        ({"probes": 0, "long_form": 2}, 50, (60, 120)),
    ],
)
def test_the_answers_of_a_comparison_of_speech(
    values: dict[str, object], test: int, answers: tuple[int, int]
) -> None:
    assert comparison_answers(SpeechOptions.model_validate(values), test) == answers


def test_the_pictures_of_a_comparison_of_images() -> None:
    from types import SimpleNamespace as Made

    from mmtune.image.image_row import ImageRow
    from mmtune.image.later_work import comparison_pictures, later_work

    named = [ImageRow(id=str(i), image="-", caption=f"thing {i}") for i in range(30)]
    parts = {"train": tuple(named[:20]), "validation": tuple(named[20:25]), "test": (*named[25:],)}
    dataset = Made(split=lambda name: parts[name], rows=tuple(named), source=Path())
    given = {"seeds": 2, "copy_captions": 25, "copy_seeds": 3, "clip_model": "none"}
    given |= {"scales": [0.5, 1.0], "scale_images": 12}
    recipe = {"recipe": "mine", "modality": "image", "base": "b"}
    config = configure(recipe, "x", given)
    # 5 captions x 2 seeds of base and adapter, and 20 training captions x 3 seeds.
    assert comparison_pictures(config, dataset) == 2 * 5 * 2 + 60  # type: ignore[arg-type]
    judged = configure(
        recipe, "x", given | {"clip_model": "c", "outside_prompts": ["dog", "Thing 1"]}
    )
    assert comparison_pictures(judged, dataset) == 2 * 6 * 2 + 60  # type: ignore[arg-type]
    task = Made(style_monitor=Made(seconds_per_picture=0.5))
    found = later_work(config, dataset, task, 4)  # type: ignore[arg-type]
    assert found == (3 * 12 / 2, 40.0)


def test_a_run_tells_it_once(tmp_path: Path) -> None:
    told: list[Estimate] = []
    asked: list[int] = []

    class Hears(Reporter):
        def estimate(self, found: Estimate) -> None:
            told.append(found)

    def later(validations: int, seconds: float) -> LaterWork:
        asked.append(validations)
        assert seconds > 0
        return LATER

    for _ in range(2):  # the second call finds the run done
        fit(ToyTask(), rows(21), rows(5, "held"), options(), tmp_path, Hears(), later=later)
    assert asked == [3]
    [found] = told
    [entry] = [each for each in read_log(tmp_path / "log.jsonl") if each.get("event") == "estimate"]
    assert entry["phases"] == dict(found.phases)
    assert found.phases["comparison"] == 40.0


def test_a_run_goes_on_without_an_estimate(tmp_path: Path) -> None:
    told: list[str] = []

    class Hears(Reporter):
        def note(self, text: str) -> None:
            told.append(text)

    def later(validations: int, seconds: float) -> LaterWork:
        raise DataError("a.wav can't be read", "copy it again")

    fit(ToyTask(), rows(21), rows(5, "held"), options(), tmp_path, Hears(), later=later)
    assert "how long the whole command takes isn't known: a.wav can't be read" in told
    assert any("loss" in entry for entry in read_log(tmp_path / "log.jsonl"))
