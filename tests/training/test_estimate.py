"""The estimate of a whole command, by hand: nothing here is timed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mmtune.errors import DataError
from mmtune.runs import timing
from mmtune.runs.recipes import configure
from mmtune.runs.train_on_data import timing_kind
from mmtune.speech.later_work import comparison_answers
from mmtune.speech.speech_options import SpeechOptions
from mmtune.system.display import duration
from mmtune.training.estimate import (
    Clock,
    Estimate,
    LaterWork,
    StepTimes,
    compared_states,
    estimate,
)
from mmtune.training.log import read_log
from mmtune.training.loop import fit
from mmtune.training.reporter import Reporter
from tests.training.test_loop import options
from tests.training.toy import ToyTask, rows

LATER = LaterWork(24.0, 40.0, 5.0)
CLOCK = {"data": 4.0, "preparation": 18.0, "validation": 8.0, "training": 5.0}


def test_the_phases_add_up() -> None:
    found = estimate(
        clock=CLOCK, steps=190, step_seconds=0.5, validations=4, validation_seconds=8.0, later=LATER
    )
    assert dict(found.phases) == {
        "data": 4.0,
        "preparation": 18.0,
        "training": 100.0,
        "validation": 40.0,
        "choosing the strength": 24.0,
        "comparison": 40.0,
        "report": 5.0,
    }
    assert (found.seconds, found.spent) == (231.0, 35.0)
    assert found.line() == (
        "estimate   3 min 51 s for the whole command: data 4 s, preparation 18 s, training 1 min "
        "40 s, validation 40 s, choosing the strength 24 s, comparison 40 s, report 5 s"
    )


def test_before_steps_are_timed_it_is_a_range() -> None:
    found = Estimate({"training": 100.0, "comparison": 50.0}, spent=50.0, timed=False)
    assert found.range == (50 + 60, 50 + 160)
    assert found.line() == (
        "time       1 min 50 s to 3 min 30 s for the whole command; a closer estimate follows "
        "after 10 steps"
    )


@pytest.mark.parametrize(
    ("steps", "words"), [(1, "1 step"), (4, "4 steps"), (10, "10 steps"), (500, "10 steps")]
)
def test_a_short_run_has_its_closer_estimate_after_its_last_step(steps: int, words: str) -> None:
    given = {"step_seconds": 1.0, "validations": 0, "validation_seconds": 0.0, "timed": False}
    found = estimate(clock={}, steps=steps, **given, later=LATER)  # type: ignore[arg-type]
    assert found.line().endswith(f"follows after {words}")


def test_several_processes_share_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    given = {"steps": 1, "step_seconds": 1.0, "validations": 0, "validation_seconds": 0.0}
    said = LATER.shared(4)
    timing.record("a cpu 4", said, {"comparison": 10.0})  # as it was said
    later = timing.corrected("a cpu 4", said)
    found = estimate(clock={}, **given, later=later)  # type: ignore[arg-type]
    assert found.phases["comparison"] == 10.0
    assert "validation" not in found.line()
    assert "preparation" not in found.line()


def test_runs_of_other_numbers_of_processes_are_timed_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SimpleNamespace(modality="speech")
    kinds = set()
    for processes, device in ((1, "cpu"), (2, "cpu"), (2, "cuda")):
        process = SimpleNamespace(num_processes=processes, device=SimpleNamespace(type=device))
        monkeypatch.setattr("mmtune.runs.train_on_data.this_process", lambda found=process: found)
        kinds.add(timing_kind(config))  # type: ignore[arg-type]
    assert len(kinds) == 3


def test_a_typical_step_is_none_of_the_first_and_no_extreme() -> None:
    times = StepTimes()
    seconds = [9.0, 7.0, 1.0, 1.2, 1.4, 0.1, 8.0, 1.0, 1.2, 1.4]
    assert [times.add(each, 100) for each in seconds] == [False] * 9 + [True]
    assert not times.add(50.0, 100)
    assert times.typical == pytest.approx(1.2)  # of 1.0, 1.0, 1.2, 1.2, 1.4, 1.4
    short = StepTimes()
    assert [short.add(each, 3) for each in (9.0, 7.0, 1.0)] == [False, False, True]
    assert short.typical == 1.0


def test_a_clock_counts_each_moment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 13.0, 14.0, 20.0])
    monkeypatch.setattr("mmtune.training.estimate.time.perf_counter", lambda: next(moments))
    clock = Clock()
    for phase in ("data", "training", "data"):
        clock.lap(phase)
    assert clock.seconds == {"data": 3.0 + 6.0, "training": 1.0}


def test_what_earlier_runs_took_corrects_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    assert timing.corrected("a cpu", LATER) == LATER
    took = {"choosing the strength": 48.0, "comparison": 20.0, "report": 500.0}
    for factor in (1.0, 1.0, 40.0):  # once the machine was busy
        timing.record("a cpu", LATER, {name: factor * each for name, each in took.items()})
    assert timing.corrected("a cpu", LATER) == LaterWork(48.0, 20.0, 4 * 5.0)
    assert timing.corrected("b cpu", LATER) == LATER
    for _ in range(20):
        timing.record("a cpu", LATER, {"comparison": 40.0})
    assert timing.corrected("a cpu", LATER) == LATER  # what wasn't done says nothing
    (tmp_path / "cache" / timing.FILE).write_text('{"a cpu": [{"comparison": ["x"]}, 3]}')
    assert timing.corrected("a cpu", LATER) == LATER


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
    from mmtune.image.image_row import ImageRow
    from mmtune.image.later_work import comparison_pictures, later_work

    named = [ImageRow(id=str(i), image="-", caption=f"thing {i}") for i in range(30)]
    parts = {"train": tuple(named[:20]), "validation": tuple(named[20:25]), "test": (*named[25:],)}
    rows = [row.model_copy(update={"split": name}) for name, of in parts.items() for row in of]
    dataset = SimpleNamespace(split=lambda name: parts[name], rows=tuple(rows), source=Path())
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
    task = SimpleNamespace(style_monitor=SimpleNamespace(seconds_per_picture=0.5))
    found = later_work(config, dataset, task, 4)  # type: ignore[arg-type]
    assert found == (3 * 12 / 2, 40.0)


def test_a_run_tells_a_range_and_then_the_phases(tmp_path: Path) -> None:
    told: list[Estimate] = []
    asked: list[int] = []

    class Hears(Reporter):
        def estimate(self, found: Estimate) -> None:
            told.append(found)

    def later(validations: int, seconds: float) -> LaterWork:
        asked.append(validations)
        assert seconds > 0
        return LATER

    clock = Clock()
    given = (rows(21), rows(5, "held"), options(epochs=5))
    for _ in range(2):  # the second call finds the run done
        fit(ToyTask(), *given, tmp_path, Hears(), later=later, clock=clock)
    assert asked == [5]
    first, found = told
    assert (first.timed, found.timed) == (False, True)
    [entry] = [each for each in read_log(tmp_path / "log.jsonl") if each.get("event") == "estimate"]
    assert (entry["step"], entry["phases"]) == (10, dict(found.phases))
    assert found.phases["comparison"] == 40.0
    assert set(clock.seconds) == {"preparation", "training", "validation"}


@pytest.mark.parametrize(
    ("steps", "every", "left_at_10"),
    [(15, 3, 2), (30, 29, 2), (30, 10, 2), (29, 10, 2), (11, 20, 1), (10, 5, 0)],
)
def test_the_validations_that_are_left(
    steps: int, every: int, left_at_10: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left: list[int] = []

    def hear(**given: object) -> Estimate:
        left.append(int(str(given["validations"])))
        return Estimate({})

    monkeypatch.setattr("mmtune.training.loop.estimate", hear)
    chosen = options(epochs=99, max_steps=steps, validate_every=every, checkpoint_every=100)
    task = ToyTask()
    fit(task, rows(21), rows(5, "held"), chosen, tmp_path, later=lambda count, seconds: LATER)
    assert left[1] == left_at_10 + (10 % every == 0 or steps == 10)
    assert left[0] == task.validations - 1


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
