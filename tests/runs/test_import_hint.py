"""An error about data in a format that only an import reads names the import that works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mmtune.cli import main
from mmtune.errors import ConfigError
from mmtune.runs.modalities import find_modality
from mmtune.runs.other_data import _named

ROWS = 12


def recordings(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).standard_normal((ROWS, 8_000)).astype(np.float32) / 10
    paths = [folder / f"clip-{i}.wav" for i in range(ROWS)]
    for path, samples in zip(paths, noise, strict=True):
        soundfile.write(path, samples, 16_000)
    return paths


def audiofolder(folder: Path) -> None:
    paths = recordings(folder / "train")
    lines = [f"{path.name},this is clip {i}" for i, path in enumerate(paths)]
    text = "\n".join(["file_name,transcription", *lines])
    (folder / "train" / "metadata.csv").write_text(text)


def table(folder: Path) -> None:
    paths = recordings(folder)
    lines = [f"{path.name}\tthis is clip {i}" for i, path in enumerate(paths)]
    (folder / "list.tsv").write_text("\n".join(["file\ttext", *lines]))


def data_set(folder: Path) -> object:
    import datasets

    paths = recordings(folder)
    sounds = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    rows = [{"audio": each, "text": f"this is clip {i}"} for i, each in enumerate(sounds)]
    return datasets.Dataset.from_list(rows)


def saved(folder: Path) -> None:
    data_set(folder.with_name("source")).save_to_disk(folder)  # type: ignore[attr-defined]


def parquet(folder: Path) -> None:
    folder.mkdir()
    found = data_set(folder.with_name("source"))
    found.to_parquet(folder / "train-00000.parquet")  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [audiofolder, table, saved, parquet])
@pytest.mark.parametrize("command", ["check", "train"])
def test_the_line_in_the_cure_works(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: object,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path("my data")
    make(source)  # type: ignore[operator]
    words = ["check", str(source)]
    if command == "train":
        words = ["train", "dialect", "--data", str(source), "--base", "starter:whisper-tiny.en"]
    assert main(words) in {1, 2}
    said = "".join(capsys.readouterr())
    [line] = re.findall(r"mmtune (import .*?);", said)
    assert shlex.split(line) == ["import", "my data", "--to", "my data-imported"]
    assert main(shlex.split(line)) == 0
    assert main(["check", "my data-imported"]) == 0
    assert f"rows         {ROWS}: {ROWS} usable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (saved, "is a Hugging Face data set, written by save_to_disk"),
        (parquet, "holds parquet files"),
        (table, "holds recordings and transcripts that can't be measured as rows"),
    ],
)
def test_evaluate_names_the_line_that_imports(tmp_path: Path, make: object, what: str) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    speech = SimpleNamespace(modality=find_modality("speech"))
    with pytest.raises(ConfigError) as error:
        _named(speech, tmp_path / "data", None)  # type: ignore[arg-type]
    assert error.value.found == f"{tmp_path / 'data'} {what}"
    line = f"mmtune import {tmp_path / 'data'} --to {tmp_path / 'data-imported'}; then use"
    assert f"in a format that an import reads: {line}" in error.value.cure


def test_check_begins_with_what_the_data_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "data")
    assert main(["check", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'data'} is a Hugging Face data set" in said
    assert "holds no known media" not in said


def test_a_folder_in_use_gets_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "data")
    (tmp_path / "data-imported").mkdir()
    assert main(["check", str(tmp_path / "data")]) == 1
    assert f"--to {tmp_path / 'data-imported-2'};" in capsys.readouterr().out


def test_images_and_unknown_files_get_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets
    from PIL import Image

    images = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (8, 8))]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    images.save_to_disk(tmp_path / "saved")
    (tmp_path / "parquet").mkdir()
    images.to_parquet(tmp_path / "parquet" / "train.parquet")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.md").write_text("nothing here")
    for name in ("saved", "parquet", "parquet/train.parquet", "notes"):
        assert main(["check", str(tmp_path / name)]) == 2
        assert "mmtune import" not in capsys.readouterr().err, name


def test_a_recording_that_is_too_long_names_align(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "call.wav", np.zeros(31 * 8_000, np.int16), 8_000)
    (tmp_path / "call.txt").write_text("hello")
    assert main(["check", str(tmp_path)]) == 1
    assert "--align --base starter:whisper-base" in capsys.readouterr().out
