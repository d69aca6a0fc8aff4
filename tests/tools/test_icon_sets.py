"""Brands of icon sets that the starter never saw."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmtune

pytest.importorskip("resvg_py")

TOOLS = Path(__file__).parents[2] / "tools"
INFO = {
    "name": "Test",
    "author": {"name": "Somebody"},
    "license": {"title": "MIT", "spdx": "MIT"},
}


@pytest.fixture
def icon_sets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS / "brands"))
    before = set(sys.modules)
    import icon_sets

    yield icon_sets
    for name in set(sys.modules) - before:  # `icons` and `sets` are names that others use
        sys.modules.pop(name)


def write_set(where: Path, package: str, names: list[str]) -> None:
    folder = where / package
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    icons = {}
    for i, name in enumerate(names):
        points = " ".join(f"{x},{y}" for x, y in rng.integers(1, 23, (6, 2)))
        icons[name] = {"body": f'<polygon points="{points}" fill="hsl({40 * i},80%,40%)"/>'}
    (folder / "icons.json").write_text(json.dumps({"icons": icons, "width": 24, "height": 24}))
    (folder / "info.json").write_text(json.dumps(INFO))


@pytest.mark.parametrize("role", ["choosing", "testing"])
def test_a_brand_of_a_set(icon_sets, tmp_path: Path, role: str) -> None:
    concepts = icon_sets.sets.concepts()[:60]
    write_set(tmp_path / "npm", "lucide", [f"{c}-outline" for c in concepts])
    facts = {"package": "lucide", "role": role}
    manifest = icon_sets.make("lucide", facts, tmp_path / "npm", tmp_path / "out")
    found = mmtune.check(manifest, "image", strict=True)
    assert not [f for f in found.findings if f.severity == "error"]
    wanted = set(concepts) - (icon_sets.demo_test() if role == "choosing" else set())
    assert len(icon_sets.demo_test()) == 40
    assert {row.id for row in found.rows} == wanted
    splits = [row.split for row in found.rows]
    assert splits.count("test") == len(wanted) // 3
    assert splits.count("validation") == (4 if len(wanted) < 60 else 8)
    with Image.open(found.rows[0].path) as image:
        assert image.size == (64, 64)
    assert "Somebody, MIT" in (manifest.parent / "ATTRIBUTION.txt").read_text()


def test_what_was_picked_by_hand_is_of_the_starters_concepts(icon_sets) -> None:
    for package in ("streamline-ultimate-color", "streamline-pixel"):
        found = icon_sets.chosen(package, {})
        assert len(found) >= 30
        assert set(found) <= set(icon_sets.sets.concepts())
        assert len(set(found.values())) == len(found)
