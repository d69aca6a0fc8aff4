"""When a run's folder is taken, and when its name is still free."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.errors import BaseModelError, ConfigError
from mmtune.pipeline import load_recipe, train
from mmtune.train.loop import Reporter
from tests.faults.test_kill import pictures


class Notes(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"out": str(tmp_path), "name": "run", "base": "starter:icons"} | more


def test_a_command_that_failed_does_not_hold_the_name(tmp_path: Path) -> None:
    data = str(pictures(tmp_path / "data"))
    with pytest.raises(ConfigError, match="no such file or folder"):
        train(load_recipe("brand_style", settings(tmp_path, data=str(tmp_path / "nowhere"))))
    with pytest.raises(BaseModelError, match="nothing"):
        train(load_recipe("brand_style", settings(tmp_path, data=data, base="./nothing")))
    more = {"epochs": "1", "batch_size": "8", "task.steps": "2", "validation_images": "2"}
    good = settings(tmp_path, data=data, **more)
    (tmp_path / "data" / "1.png").write_bytes(b"no picture")
    told = Notes()
    train(load_recipe("brand_style", good | {"max_bad": "0.5"}), told)
    assert any(line.startswith("error undecodable: ") and "1.png" in line for line in told.lines)
    assert any(line.startswith("1 rows are left out; mmtune check ") for line in told.lines)
    good |= {"max_bad": "0.5"}
    with pytest.raises(ConfigError, match=r"other settings: train\.lr"):
        train(load_recipe("brand_style", good | {"lr": "0.5"}))
    manifest = tmp_path / "data" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"alpha"', '"omega"'))
    with pytest.raises(ConfigError, match="has changed since"):
        train(load_recipe("brand_style", good))
