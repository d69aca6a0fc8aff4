"""What check and import say of a source that they can't take: each cure leads on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.cli import main
from tests.data.pieces import write_image


@pytest.mark.parametrize("name", ["", "readme.txt"])
def test_check_of_a_folder_without_media(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name:
        (tmp_path / name).write_text("words")
    assert main(["check", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "give a folder of audio files or of image files" in message
    assert "--modality" not in message


@pytest.mark.parametrize("more", [[], ["--modality", "image"]])
def test_check_of_one_picture(
    tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "my brand/apple.png")
    assert main(["check", str(tmp_path / "my brand/apple.png"), *more]) == 2
    message = capsys.readouterr().err
    assert f"give its folder: mmtune check '{tmp_path / 'my brand'}'" in message
    assert "audio" not in message


@pytest.mark.parametrize("suffix", [".mp4", ".MOV", ".3gp", ".vob"])
def test_import_of_a_video(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / f"Brand Film 2026{suffix}"
    video.write_bytes(b"x")
    assert main(["import", str(video), "--to", "X"]) == 2
    message = capsys.readouterr().err
    assert f"mmtune import '{video}' --frames --to X" in message
