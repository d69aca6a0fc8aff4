"""`mmtune verify` finds damaged files of a run, `repair` and a repeated `train` mend them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mmtune
from mmtune.cli import main
from mmtune.errors import ERROR, FINDINGS, ConfigError
from mmtune.runs.verify import CheckedFile
from tests.adapters.damage import STORED, WEIGHTS, change_card, cut, flip, not_a_number, seal


def copied(folder: Path, modality: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stored run with its base, data and cache, below the current folder."""
    shutil.copytree(STORED / modality, folder / modality)
    monkeypatch.chdir(folder / modality)
    monkeypatch.setenv("MMTUNE_CACHE", str(folder / modality / "cache"))
    return Path("trained/finished")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copied(tmp_path, "image", monkeypatch)


def written(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text, encoding="utf-8") and None


def changed(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def first_image(run: Path) -> Path:
    return sorted((run / "answers").glob("*.png"))[0]


def flip_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# What is damaged; how; the file that `verify` names; what `repair` says.
KINDS: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "config, no YAML": ("config.yaml", written("{"), "", "copy it from a backup"),
    "config, changed": ("config.yaml", changed("epochs: ", "epochs: 1"), "", "from a backup"),
    "data": ("data.json", cut, "", "copy it from a backup"),
    "another fingerprint": (
        "data.json",
        changed('"fingerprint": "', '"fingerprint": "0'),
        "",
        "copy it from a backup",
    ),
    "log": ("log.jsonl", written("{\n"), "", "copy it from a backup"),
    "checkpoint": (
        "checkpoints/step-0000012/weights.safetensors",
        flip,
        "checkpoints/step-0000012",
        "no checkpoint is intact",
    ),
    "image": ("", flip_in_the_middle, "answers.jsonl", "removed 1 damaged answers"),
    "answers": ("answers.jsonl", cut, "", "removed 1 damaged answers"),
    "comparison": ("comparison.json", cut, "", "next: measure it again: mmtune evaluate"),
    "another figure": ("comparison.json", changed('"value": ', '"value": 1'), "", "removed "),
    "verdict": ("verdict.json", cut, "", "removed "),
    "suite": ("suite.yaml", written("gates: 3"), "", "copy it from a backup"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_damaged_file_is_found_and_repaired_or_named(
    run: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    name, damage, listed, said = KINDS[kind]
    damage(run / name if name else first_image(run))
    listed = listed or name
    assert [file.path for file in mmtune.verify(run).damaged] == [listed]
    assert main(["verify", str(run)]) == FINDINGS
    assert f"mmtune repair {run}" in capsys.readouterr().out
    code = main(["repair", str(run)])
    assert said in capsys.readouterr().out
    left = [file.path for file in mmtune.verify(run).damaged]
    assert left == ([listed] if code else [])
    assert code == (FINDINGS if "backup" in said or "no checkpoint" in said else 0)


def test_an_intact_run_is_left_as_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal(run / "adapter")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["verify", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    states = {file["path"]: file["state"] for file in found["files"]}
    assert found["damaged"] == 0
    assert states["adapter/" + WEIGHTS["image"]] == states["comparison.json"] == "ok"
    assert states["adapter/card.json"] == "no hash stored"
    assert main(["repair", str(run)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    unfinished = mmtune.verify(run.with_name("interrupted"))
    assert not unfinished.damaged
    assert CheckedFile("checkpoints/step-0000005", "ok") in unfinished.files
    assert not mmtune.verify(run / "adapter").damaged
    with pytest.raises(ConfigError, match="is not a run folder"):
        mmtune.verify(run.parent)


def test_adapters_outside_a_run_are_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal(run / "adapter")
    Path("route.yaml").write_text(f"by: product\nlabels: {{a: {run}}}\n", encoding="utf-8")
    mmtune.compose(route="route.yaml", out="routed")
    flip(Path("routed/adapters/finished") / WEIGHTS["image"])
    listed = f"adapters/finished/{WEIGHTS['image']}"
    assert [file.path for file in mmtune.verify("routed").damaged] == [listed]
    assert [f.path for f in mmtune.verify("routed/adapters/finished").damaged] == [WEIGHTS["image"]]
    assert main(["repair", "routed"]) == FINDINGS
    assert f"not repaired: routed/{listed}" in capsys.readouterr().out


def test_an_adapter_without_an_intact_checkpoint_is_not_restored(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seal(run / "adapter")
    flip(run / "adapter" / WEIGHTS["image"])
    cut(run / "checkpoints" / "step-0000012" / "torch.pt")
    assert main(["repair", str(run)]) == FINDINGS
    said = capsys.readouterr().out
    assert "the run has no intact checkpoint of its end; copy the adapter from a backup" in said


@pytest.mark.parametrize("modality", ["speech", pytest.param("image", marks=pytest.mark.slow)])
def test_train_and_repair_restore_the_adapter_from_its_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    modality: str,
) -> None:
    run = copied(tmp_path, modality, monkeypatch)
    adapter, weights = run / "adapter", run / "adapter" / WEIGHTS[modality]
    stored = (run / "comparison.json").read_bytes()

    # A comparison that was killed: the adapter stays, and no picture is drawn again.
    answers, place = (run / "answers.jsonl").read_bytes(), weights.stat().st_ino
    (run / "comparison.json").unlink()
    assert main(["train", "recipe.yaml"]) == 0
    assert weights.stat().st_ino == place
    assert (run / "answers.jsonl").read_bytes().startswith(answers)
    (run / "comparison.json").write_bytes(stored)

    # The card is of an earlier version: NaN is found, and there is no hash to compare.
    not_a_number(weights)
    assert main(["train", "recipe.yaml"]) == 0
    seal(adapter)
    whole = {path.name: path.read_bytes() for path in adapter.iterdir()}

    for damage in (flip, Path.unlink):
        damage(weights)
        capsys.readouterr()
        assert main(["repair", str(run)]) == 0
        assert "from the run's checkpoint with the same content" in capsys.readouterr().out
        assert {path.name: path.read_bytes() for path in adapter.iterdir()} == whole
    assert not mmtune.verify(run).damaged

    # Other weights than the card names are no repair.
    change_card(adapter, json.loads(whole["card.json"])["files"] | {WEIGHTS[modality]: "0" * 64})
    assert main(["train", "recipe.yaml"]) == ERROR
    said = capsys.readouterr().err
    assert "It can't be restored: the run's checkpoint gives another" in said
    assert "cure: train again" in said
