"""What an evaluation that fails leaves of an earlier one: everything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison, read_comparison
from mmtune.runs import pipeline
from mmtune.runs.recipes import load_run
from mmtune.speech import SpeechModality
from tests.conformance.test_stored_runs import STORED, contents

MEASURED = ("comparison.json", "verdict.json", "suite.yaml", "adapter/card.json")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "speech"
    shutil.copytree(STORED / "speech", place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    return Path("trained") / "finished"


def measured(run: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(run).items() if name in MEASURED}


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        DataError("a recording is damaged"),
        MemoryError("too much"),
        KeyboardInterrupt(),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("fresh", [False, True])
def test_measuring_that_fails_keeps_the_earlier_comparison(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, fresh: bool
) -> None:
    before = measured(run)
    assert len(before) == len(MEASURED)
    monkeypatch.setattr(SpeechModality, "compare", failing(error))
    with pytest.raises(type(error)):
        pipeline.evaluate(load_run(run), "dialect", fresh)
    assert measured(run) == before


def test_writing_that_fails_keeps_the_earlier_comparison_and_card(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measured(run)
    new = Comparison("speech", [], "another one")
    monkeypatch.setattr(SpeechModality, "compare", lambda *_: new)
    monkeypatch.setattr(
        "mmtune.evaluation.comparison.write_text", failing(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        pipeline.evaluate(load_run(run))
    after = measured(run)
    # The card is an earlier version's, and is written in today's format.
    cards = [json.loads(each.pop("adapter/card.json")) for each in (before, after)]
    assert cards[0].items() <= cards[1].items()
    assert after == before


def test_a_wrong_suite_or_missing_data_changes_nothing(run: Path) -> None:
    before = measured(run)
    with pytest.raises(ConfigError, match="no suite 'nothing'"):
        pipeline.evaluate(load_run(run), "nothing")
    shutil.rmtree("data")
    with pytest.raises(DataError, match="data: no such file"):
        pipeline.evaluate(load_run(run))
    assert measured(run) == before


def test_a_new_comparison_replaces_the_earlier_one_with_its_suite(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Comparison("speech", [], "another one")
    monkeypatch.setattr(SpeechModality, "compare", lambda *_: new)
    assert pipeline.evaluate(load_run(run), "dialect").headline == new.headline
    assert read_comparison(run).headline == new.headline
    assert "name: dialect" in (run / "suite.yaml").read_text()
    assert (run / COMPARISON_FILE).stat().st_mode & 0o077 == 0
