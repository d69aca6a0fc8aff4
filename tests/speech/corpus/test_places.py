"""Where the recordings of a table are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.speech.corpus.importers import places


def test_a_recording_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.wav").write_bytes(b"")
    asked: list[Path] = []
    monkeypatch.setattr(places, "is_file", lambda path: asked.append(path) or path.is_file())
    own = places.Places(tmp_path)
    assert own.find("a.wav") == own.find("a.wav")
    assert own.find("a.wav").path == tmp_path / "clips/a.wav"
    assert asked.count(tmp_path / "clips/a.wav") == 1
    assert places.Places(tmp_path / "clips").find("a.wav").how == ""  # another table's folder
