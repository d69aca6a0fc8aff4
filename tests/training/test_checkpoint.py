"""What a checkpoint gives back, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mmtune.system.hashing import hash_file
from mmtune.training.checkpoint import (
    HASHED,
    HASHES,
    TORCH,
    Checkpoint,
    drop_old,
    load_checkpoint,
    newest,
    save_checkpoint,
    step_folders,
)


def sample(value: float = 1.0, best: float = 2.0) -> Checkpoint:
    return Checkpoint(
        weights={"w": torch.full((2,), value)},
        best={"w": torch.full((2,), best)},
        state={"step": 3, "best": {"wer": 0.5}},
        tensors={"random": [{"cpu": torch.get_rng_state()}], "scaler": {}},
    )


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    saved = sample()
    save_checkpoint(tmp_path / "step-0000003", saved)
    found = load_checkpoint(tmp_path / "step-0000003")
    assert found is not None
    assert torch.equal(found.weights["w"], saved.weights["w"])
    assert torch.equal(found.best["w"], saved.best["w"])
    assert found.state == saved.state
    assert torch.equal(found.tensors["random"][0]["cpu"], saved.tensors["random"][0]["cpu"])
    save_checkpoint(tmp_path / "step-0000003", sample(5.0))  # once more: after a crash
    again = load_checkpoint(tmp_path / "step-0000003")
    assert again is not None
    assert again.weights["w"].tolist() == [5, 5]


def test_the_disk_holds_each_file_before_the_name_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power can leave a checkpoint with empty files under its name."""
    folder = tmp_path / "step-0000003"
    waited: set[int] = set()
    wait = os.fsync

    def fsync(handle: int) -> None:
        if not folder.exists():
            waited.add(os.fstat(handle).st_ino)
        wait(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    save_checkpoint(folder, sample())
    assert {path.stat().st_ino for path in folder.iterdir()} <= waited


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_damage(tmp_path: Path, value: float) -> None:
    for name, found in (("last", sample(value, 1)), ("best", sample(1, value))):
        save_checkpoint(tmp_path / name, found)
        assert load_checkpoint(tmp_path / name) is None


@pytest.mark.parametrize("name", HASHED)
def test_each_file_is_under_a_hash(tmp_path: Path, name: str) -> None:
    """One byte of any of them, and a file that is missing."""
    save_checkpoint(tmp_path / "a", sample())
    path = tmp_path / "a" / name
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert load_checkpoint(tmp_path / "a") is None
    path.write_bytes(whole)
    assert load_checkpoint(tmp_path / "a") is not None
    path.unlink()
    assert load_checkpoint(tmp_path / "a") is None


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """`torch.pt` may come from somebody else, with hashes that fit."""

    class Runs:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "has run"),)

    save_checkpoint(tmp_path / "a", sample())
    torch.save({"optimizer": Runs()}, tmp_path / "a" / TORCH)
    hashes = {name: hash_file(tmp_path / "a" / name) for name in HASHED}
    (tmp_path / "a" / HASHES).write_text(json.dumps(hashes))
    assert load_checkpoint(tmp_path / "a") is None
    assert not (tmp_path / "has run").exists()


def test_the_newest_sound_one_is_found_and_old_ones_go(tmp_path: Path) -> None:
    for step in (2, 10, 9, 100):
        save_checkpoint(tmp_path / f"step-{step:07d}", sample(float(step)))
    names = [folder.name for folder in step_folders(tmp_path)]
    assert names == ["step-0000100", "step-0000010", "step-0000009", "step-0000002"]
    for broken in names[:2]:
        (tmp_path / broken / TORCH).write_bytes(b"")
    found, damaged = newest(tmp_path)
    assert found is not None
    assert found.weights["w"].tolist() == [9, 9]
    assert [folder.name for folder in damaged] == names[:2]
    drop_old(tmp_path, 3)
    assert [folder.name for folder in step_folders(tmp_path)] == names[:3]
    assert newest(tmp_path / "nothing") == (None, [])
