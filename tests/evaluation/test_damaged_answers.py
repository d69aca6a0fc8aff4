"""Stored answers that can't be read: which lines and pictures they are, and what stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmtune.evaluation.answers import (
    ANSWERS_FILE,
    IMAGES,
    StoredPredictor,
    damaged_answers,
    drop_damaged_answers,
)
from mmtune.image.image_row import ImageRow
from mmtune.predict import Request
from mmtune.system.files import SHARED
from tests.evaluation.test_answers import Echo, requests, stored


def lines_of(folder: Path) -> list[str]:
    return (folder / ANSWERS_FILE).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("damage", ["{", "[]", "3", "{}", '{"key": "k", "text": "t"}', '"ä'])
def test_each_damaged_line_is_named_and_the_others_stay(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SHARED, raising=False)
    stored(tmp_path, Echo()).predict(requests(3))
    path, whole = tmp_path / ANSWERS_FILE, lines_of(tmp_path)
    assert damaged_answers(tmp_path) == ([], [])
    broken = [whole[0], damage, *whole[2:4], damage, whole[5]]
    path.write_text("\n".join(broken) + "\n", encoding="utf-8")
    assert damaged_answers(tmp_path) == ([2, 5], [])
    assert drop_damaged_answers(tmp_path) == 2
    assert lines_of(tmp_path) == [whole[i] for i in (0, 2, 3, 5)]
    assert path.stat().st_mode & 0o077 == 0  # transcripts are nobody else's
    assert damaged_answers(tmp_path) == ([], [])
    again = Echo()
    stored(tmp_path, again).predict(requests(3))
    assert len(again.asked) == 2


def test_each_damaged_picture_is_named_and_goes(tmp_path: Path) -> None:
    rows = [ImageRow(id=f"{i}", image="/a.png", caption=f"c{i}") for i in range(5)]
    asked = [Request(row) for row in rows]
    stored(tmp_path, Echo(images=True)).predict(asked)
    names = [json.loads(line)["file"] for line in lines_of(tmp_path)]
    assert all(name.startswith(f"{IMAGES}/") for name in names)
    data = bytearray((tmp_path / names[1]).read_bytes())
    data[-20] ^= 1  # in the last chunk of pixels
    (tmp_path / names[1]).write_bytes(data)
    (tmp_path / names[3]).unlink()
    outside = tmp_path.parent / f"{tmp_path.name}.png"
    outside.write_bytes((tmp_path / names[0]).read_bytes())
    entry = json.loads(lines_of(tmp_path)[4]) | {"file": f"../{outside.name}"}
    kept = lines_of(tmp_path)[:4]
    (tmp_path / ANSWERS_FILE).write_text("\n".join([*kept, json.dumps(entry)]) + "\n")
    assert damaged_answers(tmp_path) == ([], [names[1], names[3], f"../{outside.name}"])
    assert drop_damaged_answers(tmp_path) == 3
    assert [json.loads(line)["file"] for line in lines_of(tmp_path)] == [names[0], names[2]]
    assert not (tmp_path / names[1]).exists()
    assert (tmp_path / names[0]).is_file()
    assert outside.is_file()  # what a line names outside the folder is not ours to delete
    again = Echo(images=True)
    stored(tmp_path, again).predict(asked)
    assert len(again.asked) == 3


def test_nothing_stored_is_nothing_damaged(tmp_path: Path) -> None:
    assert damaged_answers(tmp_path) == ([], [])


def test_requests_are_asked_in_chunks_and_each_once(tmp_path: Path) -> None:
    """Equal requests share an answer, also in different chunks; the order of answers stays."""
    asked: list[list[str]] = []

    class Watched(Echo):
        def predict(self, some):  # type: ignore[no-untyped-def]
            asked.append([f"{r.row.id} {sorted(r.adapters)}" for r in some])
            return super().predict(some)

    echo = Watched()
    some = requests(5)
    repeated = [*some[:3], some[0], *some[3:], some[2], some[9]]
    found = StoredPredictor(tmp_path, "fp", lambda: echo, chunk=4).predict(repeated)
    assert [p.value for p in found] == [p.value for p in Echo().predict(repeated)]
    assert [p.row for p in found] == [r.row.id for r in repeated]
    assert len(echo.asked) == len(set(echo.asked)) == 10
    assert [len(each) for each in asked] == [3, 4, 3]
