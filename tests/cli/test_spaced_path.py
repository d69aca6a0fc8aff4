"""A path with spaces that the shell divided: the error shows the line with quotation marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.cli import main
from mmtune.cli.spaced_path import quoted


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Brand Photos 2026").mkdir()
    (tmp_path / "my call.wav").write_bytes(b"")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a b").mkdir()


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        ("check Brand Photos 2026", "mmtune check 'Brand Photos 2026'"),
        ("check ./Brand Photos 2026 --all", "mmtune check './Brand Photos 2026' --all"),
        (
            "train brand_style --data Brand Photos 2026 --rank 4",
            "mmtune train brand_style --data 'Brand Photos 2026' --rank 4",
        ),
        ("train x --data=Brand Photos 2026", "mmtune train x '--data=Brand Photos 2026'"),
        ("transcribe my call.wav --json", "mmtune transcribe 'my call.wav' --json"),
        ("check a b", ""),  # both are there
        ("check Brand Photos", ""),  # no such folder
        ("check 'Brand", ""),
        ("", ""),
    ],
)
def test_a_divided_path_is_recognised(words: str, whole: str) -> None:
    assert quoted(words.split()) == whole


@pytest.mark.parametrize(
    "words",
    [
        ["check", "Brand", "Photos", "2026"],
        ["train", "brand_style", "--data", "Brand", "Photos", "2026"],
    ],
)
def test_the_error_shows_the_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "a path with a space needs quotation marks: mmtune " in said
    assert "'Brand Photos 2026'" in said


def test_other_errors_show_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere"]) == 2
    assert "quotation" not in capsys.readouterr().err
