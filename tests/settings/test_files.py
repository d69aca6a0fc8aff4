"""Each setting that names a file is in a run's record of contents, or has a reason not to be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mmtune.config import RunConfig
from mmtune.errors import ConfigError
from mmtune.runs.folder import FILES, check_files, claim, files_of, record_base
from mmtune.runs.recipes import load_recipe
from mmtune.system.contents import hash_contents
from tests.settings.models import ALL, of_modality

NAMES_NO_FILE = {
    *("recipe", "modality", "name", "train.tracker", "train.balance"),
    "task.language",
    *("task.call_speakers", "data.shared"),
    *("task.background", "task.trigger", "lora.targets", "task.palette", "task.outside_prompts"),
}
RECIPES = {"speech": "terminology", "image": "brand_style"}
RECORDED = {
    "speech": ["task.mix.general", "task.terms", "task.carriers", "task.control", "task.retention"],
    "image": ["task.prior_captions", "task.controls", "task.backbone", "task.clip_model"],
}


def test_every_text_setting_says_whether_it_names_a_file() -> None:
    texts = {name for name, each in ALL.items() if "str" in str(each.kind) or each.kind is str}
    named = {name for name, each in ALL.items() if each.file}
    assert texts - named == NAMES_NO_FILE
    assert {name for name, each in ALL.items() if "Path" in str(each.kind)} <= named
    harmless = {name for name in named if ALL[name].harmless}
    assert harmless == {
        *(
            "out",
            "suite",
            "base",
            "data.path",
            "data.policy",
            "task.calls",
            "task.hurtful",
            "task.image_filter",
        ),
        "task.brand_guide",
        "base_config",
    }


@pytest.mark.parametrize("modality", RECORDED)
def test_the_record_has_every_other_setting_that_names_a_file(modality: str) -> None:
    named = [each.name for each in of_modality(modality) if each.file and not each.harmless]
    assert named == ["init", *RECORDED[modality]]  # tests/runs/test_init.py has init's own


def config(tmp_path: Path, modality: str, **more: Any) -> RunConfig:
    given = {"base": "b", "out": str(tmp_path), "name": "run"} | more
    return load_recipe(RECIPES[modality], given)


def file_or_folder(path: Path, name: str) -> Path:
    """What a setting names, as its readers want it."""
    if name == "task.retention":  # a manifest with a recording
        (path / "a.wav").parent.mkdir()
        (path / "a.wav").write_bytes(b"sound")
        (path / "rows.jsonl").write_text('{"id": "1", "audio": "a.wav", "text": "words"}\n')
        return path / "rows.jsonl"
    if name in {"task.controls", "task.control", "task.backbone", "task.mix.general"}:
        (path / "below").mkdir(parents=True)
        (path / "below" / "one").write_bytes(b"content")
        return path
    path.write_text("one\ntwo {term}\n")
    return path


def change(path: Path) -> None:
    """Change the last file that counts, and no name."""
    files = [path] if path.suffix != ".jsonl" else [path.parent / "a.wav"]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    files[-1].write_bytes(b"other")


EACH = [(modality, name) for modality, names in RECORDED.items() for name in names]


@pytest.mark.parametrize(("modality", "name"), EACH)
def test_a_changed_file_is_refused_by_the_name_of_its_setting(
    tmp_path: Path, modality: str, name: str
) -> None:
    path = file_or_folder(tmp_path / "named", name)
    run = config(tmp_path, modality, **{name: str(path)})
    claim(run)
    (run.folder / "log.jsonl").touch()
    claim(run)
    check_files(run)
    change(path)
    for check in (claim, check_files):
        with pytest.raises(ConfigError, match=f"{name}: .* has changed since the run in") as told:
            check(run)
        assert "--name run-2" in told.value.cure
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{name}: .* is gone since"):
        check_files(run)
    check_files(run, missing=True)


def test_a_run_that_has_not_begun_takes_the_new_contents(tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("metformin\n")
    run = config(tmp_path, "speech", terms=str(terms))
    claim(run)
    first = (run.folder / "files.json").read_bytes()
    terms.write_text("ramipril\n")
    claim(run)
    second = (run.folder / "files.json").read_bytes()
    assert second != first
    (run.folder / "log.jsonl").touch()
    claim(run)
    assert (run.folder / "files.json").read_bytes() == second


def test_a_run_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("metformin\n")
    run = config(tmp_path, "speech", terms=str(terms))
    claim(run)
    (run.folder / FILES).unlink()
    (run.folder / "log.jsonl").touch()
    terms.write_text("ramipril\n")
    claim(run)
    check_files(run)
    record_base(run.folder, "b", "any")


def test_a_list_by_name_and_a_hub_model_have_no_contents(tmp_path: Path) -> None:
    assert files_of(config(tmp_path, "speech", terms="medical")) == {}
    assert files_of(config(tmp_path, "image", clip_model="starter:match")) == {}


def test_a_control_run_that_is_measured_again_has_not_changed(tmp_path: Path) -> None:
    control = tmp_path / "control"
    control.mkdir()
    (control / "adapter_model.safetensors").write_bytes(b"weights")
    (control / "card.json").write_text("{}")
    run = config(tmp_path, "speech", control=str(control))
    before = files_of(run)
    (control / "card.json").write_text('{"measures": []}')
    (control / "README.md").write_text("for people")
    assert files_of(run) == before
    (control / "adapter_model.safetensors").write_bytes(b"other")
    assert files_of(run) != before


def test_a_base_whose_weights_changed_is_refused(tmp_path: Path) -> None:
    run = config(tmp_path, "speech")
    claim(run)
    record_base(run.folder, "b", "1" * 64)
    record_base(run.folder, "b", "2" * 64)  # the run hasn't begun
    (run.folder / "log.jsonl").touch()
    record_base(run.folder, "b", "2" * 64)
    with pytest.raises(ConfigError, match="base: the weights of b have changed"):
        record_base(run.folder, "b", "3" * 64)
    claim(run)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"files": 1}', b"{}"])
def test_a_damaged_record_is_an_error(tmp_path: Path, content: bytes) -> None:
    run = config(tmp_path, "speech")
    claim(run)
    (run.folder / "log.jsonl").touch()
    (run.folder / FILES).write_bytes(content)
    with pytest.raises(ConfigError, match=r"files\.json is damaged"):
        claim(run)


def test_a_link_or_a_pipe_in_a_folder_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("a")
    before = hash_contents(folder)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden").write_text("x")
    assert hash_contents(folder) == before
    (folder / "b").write_text("a")
    assert hash_contents(folder) != before


def test_of_another_run_the_adapter_alone_counts(tmp_path: Path) -> None:
    control = tmp_path / "control"
    (control / "adapter").mkdir(parents=True)
    for name in ("card.json", "adapter_model.safetensors"):
        (control / "adapter" / name).write_bytes(b"one")
    run = config(tmp_path, "speech", control=str(control))
    claim(run)
    (run.folder / "log.jsonl").touch()
    (control / "report.html").write_text("that run was reported again")
    check_files(run)
    (control / "adapter" / "adapter_model.safetensors").write_bytes(b"two")
    with pytest.raises(ConfigError, match=r"task\.control: .* has changed"):
        check_files(run)
