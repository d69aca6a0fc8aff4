"""Nine adapters of other programs through every command: the tables of docs/adapters.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.foreign.every_command import REFERENCE, lines_of, table_of


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_the_docs_tell_what_the_commands_give(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    rows, told = table_of(modality, tmp_path)
    text = REFERENCE.read_text(encoding="utf-8")
    for line in lines_of(rows):
        assert line in text
    for number, error in enumerate(told, 1):
        assert f"\n{number}. " in text, error
