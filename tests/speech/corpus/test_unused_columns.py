"""Columns that no field takes are named, and the user can name the columns of a field."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmtune.cli import main
from mmtune.errors import ConfigError, DataError
from mmtune.speech.corpus.importers import import_speech
from tests.data.pieces import write_audio
from tests.speech.corpus.test_cells import rows_of

Rows = list[dict[str, str]]


def _delimited(path: Path, rows: Rows, separator: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _json(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _metadata(folder: Path, rows: Rows) -> Path:
    named = [{"file_name" if k == "audio" else k: v for k, v in row.items()} for row in rows]
    _delimited(folder / "metadata.csv", named, ",")
    return folder


def _dataset(folder: Path, rows: Rows, parquet: bool) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    values = {name: [row[name] for row in rows] for name in rows[0]}
    values["audio"] = [{"path": n, "bytes": (folder / n).read_bytes()} for n in values["audio"]]
    whole = datasets.Dataset.from_dict(values).cast_column("audio", datasets.Audio())
    to = folder / ("set.parquet" if parquet else "saved")
    whole.to_parquet(str(to)) if parquet else whole.save_to_disk(str(to))
    return to


LAYOUTS: dict[str, Callable[[Path, Rows], Path]] = {
    "csv": lambda folder, rows: _delimited(folder / "list.csv", rows, ","),
    "tsv": lambda folder, rows: _delimited(folder / "list.tsv", rows, "\t"),
    "jsonl": lambda folder, rows: _json(folder / "list.jsonl", rows),
    "audiofolder": _metadata,
    "parquet": lambda folder, rows: _dataset(folder, rows, parquet=True),
    "saved": lambda folder, rows: _dataset(folder, rows, parquet=False),
}


def source(tmp_path: Path, layout: str, text: str = "text", speaker: str = "user_hash") -> Path:
    rows = []
    for i in range(2):
        write_audio(tmp_path / f"in/{i}.wav", seed=i, seconds=0.2)
        rows.append({"audio": f"{i}.wav", text: f"words {i}", speaker: f"s{i}", "blank": ""})
    return LAYOUTS[layout](tmp_path / "in", rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_that_are_not_used_are_named(tmp_path: Path, layout: str) -> None:
    result = import_speech(source(tmp_path, layout), tmp_path / "to")
    (found,) = [each for each in result.left_out if each.kind == "unused-columns"]
    assert "not used: user_hash; no column is known to name the speaker" in found.found
    assert found.level == "warning"
    assert "--speaker-column" in found.cure
    assert any("user_hash" in line for line in result.describe())
    assert "user_hash" in (tmp_path / "to/left_out.jsonl").read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_may_be_named(tmp_path: Path, layout: str) -> None:
    path = source(tmp_path, layout, text="said")
    lost = import_speech(path, tmp_path / "to")
    assert lost.rows == 0
    assert not (tmp_path / "to").exists()
    assert sum(each.items for each in lost.left_out) == 2
    assert any("--text-column NAME" in each.cure for each in lost.left_out)
    columns = ["--text-column", "said", "--speaker-column", "user_hash"]
    assert main(["import", str(path), "--to", str(tmp_path / "to"), *columns]) == 0
    rows = [(row["text"], row["speaker"]) for row in rows_of(tmp_path / "to")]
    assert rows == [("words 0", "s0"), ("words 1", "s1")]
    assert "unused-columns" not in (tmp_path / "to/left_out.jsonl").read_text()


def test_a_column_beside_a_known_speaker_is_a_note(tmp_path: Path) -> None:
    path = source(tmp_path, "csv", speaker="client_id")
    path.write_text(path.read_text().replace(",blank", ",votes").replace(",\n", ",3\n"))
    result = import_speech(path, tmp_path / "to")
    (found,) = [each for each in result.left_out if each.kind == "unused-columns"]
    assert (found.found, found.level) == ("columns of list.csv that are not used: votes", "note")


def test_a_named_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = source(tmp_path, "csv")
    with pytest.raises(DataError, match="no column 'user'; its columns are audio, text, user_hash"):
        import_speech(path, tmp_path / "to", settings={"speaker_column": "user"})
    assert not (tmp_path / "to").exists()
    write_audio(tmp_path / "plain/a.wav", seconds=0.2)
    (tmp_path / "plain/a.txt").write_text("hello")
    with pytest.raises(ConfigError, match="--text-column has no effect"):
        import_speech(tmp_path / "plain", tmp_path / "to", settings={"text_column": "said"})
