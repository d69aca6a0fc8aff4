"""A sample of `python -m tests.speech.corpus.provenance`, and proof that it finds what is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mmtune.speech.corpus.importers.places import Place, Places
from tests.speech.corpus import provenance


def test_text_and_sound_of_each_row_have_one_source(tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for number in range(20):
        problems, counts = provenance.run(number, tmp_path / str(number))
        assert problems == []
        total += counts
    assert total["table_rows"] >= provenance.LEAST * total["table_lines"] > 0
    assert total["rows"] > total["table_rows"]


def test_the_sound_of_another_row_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = Places.find

    def any_file(self: Places, name: str) -> Place:
        found = find(self, name)
        files = sorted(self.root.rglob("*.wav"))
        return Place(files[0], found.how) if found.path else found

    monkeypatch.setattr(Places, "find", any_file)
    found = [problem for n in range(8) for problem in provenance.run(n, tmp_path / str(n))[0]]
    assert any("has the sound of" in problem for problem in found)


def test_the_codes_are_read_back(tmp_path: Path) -> None:
    for number in (0, 7, 300):
        provenance.put(tmp_path / "a.wav", number)
        wanted = [(number, place) for place in range(provenance.PLACES)]
        assert provenance.heard(tmp_path / "a.wav") == wanted
