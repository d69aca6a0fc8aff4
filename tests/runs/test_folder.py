"""A run's folder: when its settings count as the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmtune.errors import ConfigError
from mmtune.runs.folder import claim
from mmtune.runs.recipes import load_recipe


def written(tmp_path: Path, without: str = "", **changed: object) -> None:
    """A run that has begun, whose config.yaml lacks a setting or holds another value."""
    config = load_recipe("dialect", {"base": "b", "out": str(tmp_path), "name": "run"})
    claim(config)
    values = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    values["train"].pop(without, None)
    values["train"].update(changed)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "run" / "log.jsonl").touch()


def again(tmp_path: Path, **more: str) -> None:
    """The same command, with other settings on top."""
    given = {"base": "b", "out": str(tmp_path), "name": "run"} | more
    claim(load_recipe("dialect", given))


def test_a_setting_that_the_earlier_version_lacked_has_its_default(tmp_path: Path) -> None:
    written(tmp_path, without="compare_checkpoints")
    again(tmp_path)
    with pytest.raises(ConfigError, match=r"train\.compare_checkpoints was 0, now 3"):
        again(tmp_path, compare_checkpoints="3")


def test_another_value_is_refused(tmp_path: Path) -> None:
    written(tmp_path, lr=0.25)
    with pytest.raises(ConfigError, match=r"train\.lr was 0\.25"):
        again(tmp_path)


def test_a_setting_without_a_value_is_null(tmp_path: Path) -> None:
    written(tmp_path, max_steps=5)
    with pytest.raises(ConfigError, match=r"train\.max_steps was 5, now null"):
        again(tmp_path)


def guided(tmp_path: Path, name: str | None = "brand.yaml") -> None:
    given = {"base": "b", "out": str(tmp_path), "name": "run"}
    claim(
        load_recipe("brand_style", given | ({"brand_guide": str(tmp_path / name)} if name else {}))
    )


def test_results_are_judged_again_by_another_guide_and_nothing_is_trained(tmp_path: Path) -> None:
    """A guide that changes drops the comparison, and never refuses the run."""
    guide, compared = tmp_path / "brand.yaml", tmp_path / "run" / "comparison.json"
    guide.write_text("trigger: acme\n")
    guided(tmp_path)
    (tmp_path / "run" / "log.jsonl").touch()
    compared.touch()
    guided(tmp_path)
    assert compared.exists()
    guide.write_text("trigger: acme icon\n")
    guided(tmp_path)
    assert not compared.exists()
    compared.touch()
    guided(tmp_path)
    assert compared.exists()
    guide.unlink()  # whoever reads it says so
    guided(tmp_path)
    guided(tmp_path, None)
    assert not compared.exists()
