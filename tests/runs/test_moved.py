"""A run that was moved, alone or with its data, works as before: each command that reads it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import mmtune
from mmtune.adapters.combinations import Ways, constant
from mmtune.adapters.members import read_members
from mmtune.config import RunConfig
from mmtune.data.dataset import Dataset
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import Comparison, read_comparison
from mmtune.pages.review import write_review
from mmtune.runs import folder, pipeline
from mmtune.runs.folder import claim, files_of, keep_comparison, keep_place
from mmtune.runs.modalities import play
from mmtune.runs.recipes import load_recipe, load_run
from mmtune.runs.try_ways import test_sets_of as sets_of
from mmtune.speech import SpeechModality
from tests.conformance.test_stored_runs import STORED

PATHS = {"out": "trained", "base": "base", "data": "data", "terms": "terms.txt"}


class Project:
    """A folder with data, a base and a run, as it was when the run was made."""

    def __init__(self, root: Path, kind: str, absolute: bool) -> None:
        self.root, self.kind = root / "project", kind
        shutil.copytree(STORED / kind, self.root)
        self.run = self.root / "trained" / "finished"
        path = self.run / "config.yaml"
        values = yaml.safe_load(path.read_text())
        if absolute:
            values |= {"out": str(self.root / "trained"), "base": str(self.root / "base")}
            values["data"]["path"] = str(self.root / "data")
            if kind == "speech":
                values["task"]["terms"] = str(self.root / "terms.txt")
        path.write_text(yaml.safe_dump(values))

    def measured_here(self) -> None:
        """Write the comparison as today's version does, from the place where the run was made."""
        found = read_comparison(self.run)
        told = json.dumps(found.to_json()).replace(f"/tmp/stored/{self.kind}", str(self.root))
        told = told.replace('"trained/finished/', f'"{self.run}/')
        values = json.loads(told)
        named = [
            {
                key: Path(value) if isinstance(value, str) and value.startswith("/") else value
                for key, value in example.items()
            }
            for example in values["examples"]
        ]
        found = Comparison.from_json(values)
        keep_comparison(load_run(self.run), Comparison(**{**vars(found), "examples": named}))


def renamed(project: Project) -> Path:
    project.run.rename(project.run.with_name("other"))
    return project.run.with_name("other")


def elsewhere(project: Project) -> Path:
    new = project.root / "archive" / "2026" / "finished"
    new.parent.mkdir(parents=True)
    project.run.rename(new)
    return new


def together(project: Project) -> Path:
    new = project.root.with_name("copy")
    project.root.rename(new)
    return new / "trained" / "finished"


# Where a path of the run's settings isn't found is said; the others are found again.
MOVES: dict[str, tuple[Callable[[Project], Path], bool, bool]] = {
    "renamed": (renamed, False, True),
    "renamed, absolute paths": (renamed, True, False),
    "moved, absolute paths": (elsewhere, True, False),
    "moved with its data": (together, False, False),
    "moved with its data, absolute paths": (together, True, False),
}  # the function, whether paths are absolute, and whether the current folder is the project's


@pytest.fixture(params=["speech", "image"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MOVES)
def moved(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The run in its new place; the current folder is another one than the project's."""
    move, absolute, inside = MOVES[request.param]
    project = Project(tmp_path, kind, absolute)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(project.root)
    project.measured_here()
    new = move(project)
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(project.root if inside else tmp_path / "desk")
    return new


def shown(page: Path) -> int:
    return len(re.findall(r'src="data:(?:audio|image)/', page.read_text()))


def test_pages_show_its_pictures_and_recordings(kind: str, moved: Path) -> None:
    html = mmtune.report(moved)
    text = html.read_text()
    assert "can no longer be read" not in text
    examples = read_comparison(moved).examples
    each = 1 if kind == "speech" else 4  # a recording, or base, adapter, brand and nearest
    assert shown(html) >= each * len(examples)
    page = write_review(moved, play=play)
    assert page.items > 0
    assert page.path.read_text().count("data:") >= page.items


def test_no_file_of_the_run_is_named_by_where_it_was(moved: Path) -> None:
    values = json.loads((moved / "comparison.json").read_text())
    values.pop("headline")  # a sentence for the terminal
    assert "trained/finished/" not in json.dumps(values)
    for file in read_comparison(moved).files.values():
        assert file.is_file()
    card = (moved / "adapter" / "card.json").read_text()
    assert not re.search(r'"/[^"]*(?:data|trained|terms)', card)


def test_it_is_verified_and_listed(moved: Path) -> None:
    assert [file.detail for file in mmtune.verify(moved).damaged] == []
    [run] = mmtune.list_runs(moved).runs
    assert run.state == "measured"


def test_it_is_measured_on_its_own_rows(
    moved: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[RunConfig, Dataset]] = []

    def compare(_: Any, config: RunConfig, dataset: Dataset, *__: Any) -> Comparison:
        asked.append((config, dataset))
        return Comparison(kind, [], "measured again")

    modality = type(pipeline.find_modality(kind))
    monkeypatch.setattr(modality, "compare", compare)
    assert mmtune.evaluate(moved).comparison.headline == "measured again"
    [(config, dataset)] = asked
    assert (
        len(dataset.split("test")) == json.loads((moved / "data.json").read_text())["rows"]["test"]
    )
    assert Path(config.base).is_dir()
    terms = getattr(config.task, "terms", None)
    assert terms is None or terms.is_file()


def test_adapters_are_compared_on_its_rows(moved: Path, kind: str) -> None:
    parts = read_members({moved: 1.0})
    ways = Ways(kind, "base", {"1": parts[0].folder}, {"base": constant({})}, parts)
    [found] = sets_of(ways, None)
    assert found.dataset.fingerprint == parts[0].card.dataset


def settings_of_moved(moved: Path, **more: str) -> RunConfig:
    """Those with which a user resumes it: the stored recipe, and where things are now."""
    root = next(path for path in (moved, *moved.parents) if (path / "recipe.yaml").is_file())
    given = {"out": str(moved.parent), "name": moved.name, "base": str(root / "base")}
    given |= {"data": str(root / "data"), "suite": str(root / "suite.yaml")}
    values = yaml.safe_load((root / "recipe.yaml").read_text())
    if "terms" in values["task"]:
        given["terms"] = str(root / "terms.txt")
    return load_recipe(str(root / "recipe.yaml"), given | more)


def test_it_is_resumed_with_the_new_places(moved: Path) -> None:
    config = settings_of_moved(moved)
    folder._write_files(moved, files_of(load_run(moved)) | {"base": "as it was"})
    claim(config)
    keep_place(config)
    assert load_run(moved).base == config.base
    claim(load_run(moved))
    with pytest.raises(ConfigError, match=r"other settings: train\.lr"):
        claim(settings_of_moved(moved, lr="0.5"))


def test_a_file_with_other_contents_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, "speech", absolute=True)
    monkeypatch.chdir(tmp_path)
    folder._write_files(project.run, files_of(load_run(project.run)) | {"base": "as it was"})
    terms = tmp_path / "other.txt"
    terms.write_text("omega\n")
    with pytest.raises(ConfigError, match=r"other settings: task\.terms"):
        claim(settings_of_moved(project.run, terms=str(terms)))


@pytest.mark.slow
def test_training_data_in_another_place_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, "speech", absolute=True)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (project.root / "data").rename(tmp_path / "recordings")
    found = mmtune.evaluate(project.run, data="recordings", settings={"probes": 0})
    assert found.comparison.notes == [
        "recordings is what finished was trained on: its test rows are measured"
    ]
    rows = json.loads((project.run / "data.json").read_text())["rows"]
    assert max(m.items for m in found.comparison.measures if m.slice == "test") == rows["test"]
    assert SpeechModality.name == found.comparison.modality
