"""A tracker that is down doesn't stop a run; one that can't exist is an error at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from mmtune.errors import ConfigError
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import configure
from mmtune.training.loop import fit
from mmtune.training.tracker import Tracker, flat_settings, require_tracker
from tests.training.test_loop import Notes, options
from tests.training.toy import ToyTask, rows


class Down(GeneralTracker):
    """A tracker whose server answers until `fails` is called."""

    name = "down"
    requires_logging_directory = False
    fails = ""
    logged: ClassVar[list[tuple[int, set[str]]]] = []

    def __init__(self, run_name: str, **kwargs: Any) -> None:
        super().__init__()
        self._try("__init__")

    @property
    def tracker(self) -> Down:
        return self

    def _try(self, call: str) -> None:
        if self.fails == call:
            raise ConnectionError("the server is down\nand more")

    def start(self) -> None:
        self._try("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._try("store_init_configuration")

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.logged.append((step or 0, set(values)))
        if step and step >= 2:
            self._try("log")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate knows the tracker `down`."""
    for module in (accelerate.tracking, accelerate.accelerator):
        monkeypatch.setitem(module.LOGGER_TYPE_TO_CLASS, "down", Down)
    monkeypatch.setattr("mmtune.training.tracker.get_available_trackers", lambda: ["down"])
    monkeypatch.setattr(Down, "logged", [])


@pytest.mark.parametrize("call", ["__init__", "start", "store_init_configuration", "log"])
def test_a_tracker_that_is_down_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(Down, "fails", call)
    notes = Notes()
    done = fit(ToyTask(), rows(21), rows(5, "held"), options(tracker="down"), tmp_path, notes)
    assert done.reason == "done"
    [told] = [text for text in notes.notes if "tracker" in text]
    assert "the tracker down failed" in told
    assert told.endswith("(ConnectionError: the server is down)")
    assert len(Down.logged) == (3 if call == "log" else 0)  # validation 0, step 1, step 2


def test_a_tracker_gets_every_step_and_validation(tmp_path: Path) -> None:
    notes = Notes()
    fit(ToyTask(), rows(21), rows(5, "held"), options(tracker="down"), tmp_path, notes)
    assert [step for step, values in Down.logged if "loss" in values] == list(range(1, 10))
    assert [step for step, values in Down.logged if "loss" not in values] == [0, 3, 6, 9]
    assert not [text for text in notes.notes if "tracker" in text]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wandbb", "did you mean wandb"),
        ("tensorbord", "did you mean tensorboard"),
        ("mlflow", "pip install mlflow"),
        ("comet_ml", "pip install comet-ml"),
        ("nothing like it", "known: aim, clearml,"),
    ],
)
def test_a_tracker_that_cannot_be_used_is_an_error(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(ToyTask(), rows(21), [], options(tracker=name), tmp_path)


@pytest.mark.parametrize("modality", ["speech", "image"])
def test_it_is_an_error_before_the_run_has_a_folder(tmp_path: Path, modality: str) -> None:
    given = {"recipe": "mine", "modality": modality, "base": "no such base"}
    config = configure(given, "x", {"tracker": "tensorbord", "out": str(tmp_path / "runs")})
    with pytest.raises(ConfigError, match="did you mean tensorboard"):
        train(config)
    assert not (tmp_path / "runs").exists()


def test_all_trackers_where_none_is_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtune.training.tracker.get_available_trackers", list)
    with pytest.raises(ConfigError, match="no tracker is installed"):
        require_tracker("all")


def test_an_ended_tracker_gets_nothing_more(tmp_path: Path) -> None:
    accelerator = Accelerator(log_with="down", project_dir=str(tmp_path), cpu=True)
    tracker = Tracker(accelerator, "down", "run", Notes().note)
    tracker.start({}, 0)
    tracker.log({"loss": 1.0}, 1)
    tracker.finish()
    tracker.log({"loss": 1.0}, 2)
    assert [step for step, _ in Down.logged] == [1]


def test_a_finished_run_logs_nothing_more(tmp_path: Path) -> None:
    for _ in range(2):
        fit(ToyTask(), rows(21), rows(5, "held"), options(tracker="down"), tmp_path)
    assert len(Down.logged) == 13  # 9 steps and 4 validations


def test_settings_become_numbers_and_texts() -> None:
    given = {"lr": 0.1, "scales": (0.5, 1.0), "max_steps": None, "data": {"path": Path("a/b")}}
    flat = {"lr": 0.1, "scales": "0.5,1.0", "max_steps": "null", "data.path": str(Path("a/b"))}
    assert flat_settings(given | {"cache": True}) == flat | {"cache": True}
