"""The command line: what it prints, what it returns, and what it must not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmtune.adapters.card import adapter_folder
from mmtune.cli import COMMANDS, main
from mmtune.cli.run_commands import split_settings
from mmtune.errors import AdapterError, ConfigError
from mmtune.runs import pipeline
from mmtune.runs.recipes import load_recipe
from mmtune.training.interrupt import Interrupted

HEAVY = ("torch", "transformers", "diffusers", "peft", "accelerate", "librosa")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        time = np.arange(16_000) / 16_000
        sound = 0.2 * np.sin(2 * np.pi * (200 + 40 * i) * time) + 0.01 * rng.normal(size=16_000)
        soundfile.write(folder / f"call{i}.wav", sound, 16_000)
        (folder / f"call{i}.txt").write_text(f"sentence number {i}")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("red apple", "green pear", "blue plum"):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def imported_by(*arguments: str) -> set[str]:
    """Heavy top-level modules that a command imports, in a process of its own."""
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['mmtune', *{list(arguments)!r}]\n"
        "try:\n    runpy.run_module('mmtune', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert stop.code in (0, None), stop.code\n"
        "sys.stderr.write('|'.join({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split("|")) & set(HEAVY)


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("--help") == set()
    assert imported_by("train", "dialect", "--help") == set()


def test_check_needs_no_model_library(recordings: Path, pictures: Path) -> None:
    assert imported_by("check", str(recordings)) <= {"librosa"}
    assert imported_by("check", str(pictures)) == set()
    assert imported_by("caption", str(pictures), "--dry-run") == set()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"\n    {name}" in text for name in COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert f"usage: mmtune {name}" in capsys.readouterr().out


DRAW = ["generate", "--base", "nothere/at-all", "--prompt", "an apple"]


@pytest.mark.parametrize(
    ("arguments", "found", "cure"),
    [
        (["trian", "terminology"], "unknown command 'trian'", "did you mean train?"),
        (["train", "terminolgy"], "no recipe 'terminolgy'", "did you mean terminology?"),
        (["init", "brand-style"], "no recipe 'brand-style'", "did you mean brand_style?"),
        (["train", "terminology", "--epochz", "3"], "unknown setting 'epochz'", "train.epochs"),
        (["train", "terminology", "--lr"], "--lr has no value", "--lr VALUE"),
        (["train"], "RECIPE", "mmtune train --help"),
        (["train", "--lr", "1"], "needs exactly one recipe", "mmtune recipes"),
        (["train", "nothere.yaml"], "no such file: nothere.yaml", "existing .yaml"),
        (["check", "nothere"], "no such file or folder: nothere", "manifest.jsonl"),
        (["evaluate", "nothere"], "nothere is not a run folder", "runs/NAME"),
        (["transcribe", "--adapter", "nothere", "a.wav"], "holds no adapter", "runs/NAME"),
        (["transcribe", "a.wav"], "no model is given", "--adapter runs/NAME"),
        (["transcribe"], "FILE", "mmtune transcribe --help"),
        (["generate", "--adapter", "x", "--prompt", "p", "--count", "0"], "less than 1", "--help"),
        ([*DRAW, "--scale", "0,5"], "'0,5' is not a number: write 0.5", "--help"),
        ([*DRAW, "--scale", "80%"], "'80%' is not a number: write 0.8", "--help"),
        ([*DRAW, "--scale", "half"], "'half' is not a number: give a number such as 0.5", "--help"),
        ([*DRAW, "--scale", "1,000"], "'1,000' is not a number: give a number such as", "--help"),
        ([*DRAW, "--scale", "0,25"], "'0,25' is not a number: write 0.25", "--help"),
        ([*DRAW, "--scale", "inf%"], "'inf%' is not a number: give a number such as", "--help"),
        ([*DRAW, "--scale=-inf"], "-inf is not a finite number", "--help"),
        ([*DRAW, "--scale", "-inf"], "-inf is not a finite number", "--help"),
        ([*DRAW, "--scale", "-1e9", "--count", "0"], "0 is less than 1", "--help"),
        ([*DRAW, "--count", "2.5"], "'2.5' is not a whole number", "--help"),
        ([*DRAW, "--seed", "x"], "'x' is not a whole number", "--help"),
        ([*DRAW, "--strength", "0.5"], "--strength 0.5", "--scale is its name here"),
        ([*DRAW, "--cfg-scale=7"], "--cfg-scale=7", "--guidance is its name here"),
        ([*DRAW, "--scal", "1"], "--scal 1", "did you mean --scale?"),
        (["generate", "--base", "x", "--prompt", "an", "apple"], "apple", '--prompt "an apple"'),
        (["generate", "--base", "starter:icons", "--prompt", " "], "a prompt is empty", "--prompt"),
        (["cache", "prune"], "prune needs a limit", "--max-gb"),
    ],
)
def test_errors_are_one_clean_message(
    arguments: list[str],
    found: str,
    cure: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert found in message
    assert cure in message.split("cure:")[1]
    assert "Traceback" not in message


def test_settings_before_and_after_the_recipe() -> None:
    wanted = ("terminology", {"data": "x", "train.lr": "1e-3", "lora.alpha": "-1"})
    for words in (
        "--data x terminology --train.lr=1e-3 --lora.alpha -1",
        "terminology --data=x --train.lr 1e-3 --lora.alpha=-1",
    ):
        assert split_settings(words.split()) == wanted
    for wrong in ("a b", "a --x 1 --x 2", "a --x --y 1", ""):
        with pytest.raises(ConfigError):
            split_settings(wrong.split())


names = st.from_regex(r"[a-z][a-z_.]{0,12}", fullmatch=True)
values = st.text(min_size=1).filter(lambda v: not v.startswith("--"))


@given(st.dictionaries(names, values, max_size=6), st.data())
def test_any_settings_are_read_back(settings: dict[str, str], data: st.DataObject) -> None:
    words: list[list[str]] = []
    for key, value in settings.items():
        joined = data.draw(st.booleans())
        words.append([f"--{key}={value}"] if joined else [f"--{key}", value])
    words.insert(data.draw(st.integers(0, len(words))), ["recipe"])
    assert split_settings([w for group in words for w in group]) == ("recipe", settings)


def test_the_settings_of_a_recipe_as_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "terminology", "--lr", "0.5", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["recipe"] == "terminology"
    assert values["train"]["lr"] == 0.5


def test_init_copies_and_refuses_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "terminology", "--to", "mine"]) == 0
    copied = {p.name for p in (tmp_path / "mine").iterdir()}
    assert {"recipe.yaml", "terminology.py", "README.md", "suite.yaml"} <= copied
    config = load_recipe("mine/recipe.yaml", {})
    assert config.recipe == "terminology"
    assert config.suite == "mine/suite.yaml"
    assert main(["init", "terminology", "--to", "mine"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, modality in (("terminology", "speech"), ("brand_style", "image")):
        line = next(line for line in lines if line.startswith(f"{name} "))
        assert line.split()[1] == modality
        assert len(line.split()) > 4, "it says what it is for"


def test_check_guesses_the_modality(
    recordings: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, modality, rows in ((recordings, "speech", 6), (pictures, "image", 3)):
        assert main(["check", str(folder), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["modality"] == modality
        assert sum(facts["usable"].values()) == rows


def test_check_tables_findings_and_fails(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "call1.wav").write_bytes(b"not audio")
    (recordings / "call2[red].wav").write_bytes(b"")
    (recordings / "call2[red].txt").write_text("hello")
    assert main(["check", str(recordings)]) == 1
    table = capsys.readouterr().out
    assert "call1" in table
    assert "call2[red]" in table, "names are not read as markup"
    assert main(["check", str(recordings), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    errors = [f for f in facts["findings"] if f["severity"] == "error"]
    assert len({f["row"] for f in errors}) == len(facts["quarantined"]) == 2
    assert all(f["message"] and f["cure"] for f in errors)


def test_manifest_says_its_modality(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = recordings / "list.jsonl"
    manifest.write_text('{"id": "a", "audio": "call0.wav", "text": "sentence number 0"}\n')
    assert main(["check", str(manifest), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["modality"] == "speech"
    manifest.write_text('{"id": "a", "txt": "nothing that we know"}\n[1]\nno json\n')
    assert main(["check", str(manifest)]) == 2
    assert "--modality" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate", "--prompt", "a ball", "--adapter"], ["export"]])
def test_an_unfinished_run_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    run = tmp_path / "runs" / "brand"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("recipe: brand_style\n")
    (run / "log.jsonl").touch()
    more = ["--format", "kohya", "--out", str(tmp_path / "x.safetensors")]
    assert main([*command, str(run), *(more if command == ["export"] else [])]) == 2
    told = capsys.readouterr().err
    assert f"the run {run} isn't finished" in told
    assert "repeat the run's `mmtune train` command to finish it" in told


def test_adapter_folder_takes_runs_and_adapters(tmp_path: Path) -> None:
    adapter = tmp_path / "runs" / "a" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "card.json").write_text("{}")
    assert adapter_folder(adapter) == adapter
    assert adapter_folder(adapter.parent) == adapter
    unfinished = tmp_path / "runs" / "b"
    (unfinished / "checkpoints").mkdir(parents=True)
    with pytest.raises(AdapterError, match="isn't finished"):
        adapter_folder(unfinished)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (Interrupted(2, 7), 130, "resume: mmtune train terminology --name 'a b'"),
        (Interrupted(15, 7), 143, "resume: mmtune train"),
        (KeyboardInterrupt(), 130, "repeat the command to resume"),
    ],
)
def test_interrupts_say_how_to_go_on(
    raised: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise raised

    monkeypatch.setattr(pipeline, "train", stop)
    assert main(["train", "terminology", "--name", "a b"]) == code
    assert said in capsys.readouterr().err


def test_cache_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from mmtune.prefix.cache import PrefixCache

    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path))
    store = PrefixCache()
    for key in ("aaaa", "bbbb"):
        store.put(key, {"x": torch.zeros(8)}, note="audio stage")
    assert main(["cache", "ls"]) == 0
    assert "2 entries" in capsys.readouterr().out
    [entry] = store.root.glob("*/aaaa*")
    entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    assert main(["cache", "verify"]) == 1
    assert "removed a damaged entry: aaaa" in capsys.readouterr().out
    assert main(["cache", "prune", "--max-gb", "0"]) == 0
    assert "removed 1 entries" in capsys.readouterr().out
    assert store.ls() == []
