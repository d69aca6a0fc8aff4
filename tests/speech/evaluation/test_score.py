"""`mmtune score`: transcripts of any system, in any form, give the figures that jiwer gives."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest

import mmtune
from mmtune.cli import main
from mmtune.errors import DataError, MmtuneError
from mmtune.metrics.text.normalize import normalize
from mmtune.speech.corpus.text_tables import HYPOTHESES, REFERENCES, pair, read_texts
from mmtune.speech.evaluation.score import Score

WORDS = ("take", "metoprolol", "50", "mg", "not", "left", "right", "doctor", "said", "well")
ACCENTS = ("scottish", "indian")


def sentences(count: int = 40, seed: int = 1) -> list[dict[str, Any]]:
    """Rows with references and imperfect transcripts, of 20 speakers."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        spoken = list(rng.choice(WORDS, size=int(rng.integers(3, 12))))
        written = [w for w in spoken if rng.random() > 0.1]
        written = [str(rng.choice(WORDS)) if rng.random() < 0.1 else w for w in written]
        if rng.random() < 0.1:
            written.insert(0, "um")
        rows.append(
            {
                "id": f"call/{i:03}",
                "text": " ".join(spoken),
                "hypothesis": " ".join(written),
                "speaker": f"s{i % 20}",
                "accent": ACCENTS[i % 2],
            }
        )
    return rows


ROWS = sentences()


def by_jiwer(rows: list[dict[str, Any]]) -> Any:
    return jiwer.process_words(
        [normalize(row["text"], "en") for row in rows],
        [normalize(row["hypothesis"], "en") for row in rows],
    )


def lines(path: Path, key: str) -> Path:
    path.write_text("".join(row[key] + "\n" for row in ROWS))
    return path


def json_lines(path: Path, key: str, name: str = "text", **more: Any) -> Path:
    values = [{"id": row["id"], name: row[key], **more} for row in ROWS]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def json_list(path: Path, key: str) -> Path:
    path.write_text(json.dumps([{"utt_id": row["id"], "text": row[key]} for row in ROWS]))
    return path


def table(path: Path, key: str, head: tuple[str, str] = ("id", "sentence")) -> Path:
    separator = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(head)
        for row in reversed(ROWS):  # the order doesn't matter where there are ids
            writer.writerow([row["id"] if head[0] == "id" else f"{row['id']}.wav", row[key]])
    return path


def folder(path: Path, key: str) -> Path:
    for row in ROWS:
        place = path / f"{row['id']}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(row[key] + "\n")
    return path


def manifest(path: Path, key: str) -> Path:
    path.mkdir()
    values = [{"audio": f"{row['id']}.flac", "text": row[key]} for row in ROWS]
    (path / "manifest.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


FORMS: dict[str, Callable[[Path, str], Path]] = {
    "json lines": lambda p, key: json_lines(p.with_suffix(".jsonl"), key),
    "json list": lambda p, key: json_list(p.with_suffix(".json"), key),
    "csv": lambda p, key: table(p.with_suffix(".csv"), key),
    "tsv of files": lambda p, key: table(p.with_suffix(".tsv"), key, ("path", "transcript")),
    "folder of .txt": folder,
    "folder with a manifest": manifest,
    "nemo": lambda p, key: json_lines(p.with_suffix(".ndjson"), key, "text", pred_text=None)
    if key == "text"
    else json_lines(p.with_suffix(".ndjson"), key, "pred_text", text="not this"),
}  # fmt: skip


def require_figures_of_jiwer(found: Score, rows: list[dict[str, Any]]) -> None:
    wanted = by_jiwer(rows)
    assert found.figures[0].value.value == pytest.approx(wanted.wer)
    counts = (wanted.substitutions, wanted.deletions, wanted.insertions)
    assert (found.substitutions, found.deletions, found.insertions) == counts
    assert found.words == wanted.hits + wanted.substitutions + wanted.deletions


@pytest.mark.parametrize("own", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_rows_with_names_are_paired_whatever_their_form(
    tmp_path: Path, own: str, other: str
) -> None:
    first = FORMS[own](tmp_path / "references", "text")
    second = FORMS[other](tmp_path / "hypotheses", "hypothesis")
    pairs, _ = pair(read_texts(first, REFERENCES), read_texts(second, HYPOTHESES), first, second)
    wanted = {(row["text"], row["hypothesis"]) for row in ROWS}
    assert {(one.text, two.text) for one, two in pairs} == wanted
    assert len(pairs) == len(ROWS)


@pytest.mark.parametrize("other", ["text", "json lines"])
def test_lines_without_names_are_paired_by_order(tmp_path: Path, other: str) -> None:
    second = lines(tmp_path / "hyp.txt", "hypothesis")
    first = tmp_path / "ref"
    first = (
        lines(first.with_suffix(".txt"), "text") if other == "text" else FORMS[other](first, "text")
    )
    found = mmtune.score(first, second)
    require_figures_of_jiwer(found, ROWS)
    assert any("order" in note for note in found.notes) == (other != "text")


def test_an_empty_line_is_a_transcript_without_words(tmp_path: Path) -> None:
    (tmp_path / "ref.txt").write_text("yes please\n\nthanks\n")
    (tmp_path / "hyp.txt").write_text("yes please\r\nhello\r\n\r\n")
    found = mmtune.score(tmp_path / "ref.txt", tmp_path / "hyp.txt")
    # A sentence that nobody said is an insertion; one that nobody wrote is a deletion.
    assert (found.words, found.substitutions, found.deletions, found.insertions) == (3, 0, 1, 1)
    assert "WER 0.667" in found.sentence
    assert "2 wrong for 3 spoken words (0 replaced, 1 missing, 1 added)" in found.sentence


def test_groups_and_intervals(tmp_path: Path) -> None:
    first = tmp_path / "ref.jsonl"
    first.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    found = mmtune.score(first, first)  # one file may hold both
    figures = {(f.metric, f.slice): f for f in found.figures}
    require_figures_of_jiwer(found, ROWS)
    for accent in ACCENTS:
        some = [row for row in ROWS if row["accent"] == accent]
        figure = figures["WER", f"accent {accent}"]
        assert (figure.items, figure.value.value) == (20, pytest.approx(by_jiwer(some).wer))
    for figure in found.figures:
        assert figure.value.low <= figure.value.value <= figure.value.high
        assert figure.value.high > figure.value.low  # also where nothing was wrong: 3 / n
    assert figures["critical errors", "all rows"].items == 40
    wanted = jiwer.process_characters(
        [normalize(row["text"], "en") for row in ROWS],
        [normalize(row["hypothesis"], "en") for row in ROWS],
    )
    assert figures["CER", "all rows"].value.value == pytest.approx(wanted.cer)


def test_few_speakers_are_told_and_one_sentence_has_no_interval(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    rows = [{"id": str(i), "ref": "yes please", "hyp": "yes", "speaker": "a"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = mmtune.score(path, path)
    assert math.isnan(found.figures[0].value.low)
    text = str(found)
    assert "WER 0.500 (no interval: one sentence)" in text
    assert "1 speaker of at least 20" in text
    assert found.to_dict()["figures"][0]["value"] == {"value": 0.5, "low": None, "high": None}


def test_terms_are_counted(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("metoprolol | metoprolole\napixaban\n")
    (tmp_path / "ref.txt").write_text("take metoprolol\nand apixaban\nnothing here\n")
    (tmp_path / "hyp.txt").write_text("take metoprolole\nand a pixie\napixaban here\n")
    found = mmtune.score(tmp_path / "ref.txt", tmp_path / "hyp.txt", terms=tmp_path / "terms.txt")
    figures = {f.metric: f for f in found.figures}
    assert (figures["term recall"].value.value, figures["term recall"].items) == (0.5, 2)
    assert figures["term precision"].value.value == 0.5
    assert figures["false insertions"].value.value == pytest.approx(1 / 3)
    other = tmp_path / "other.txt"
    other.write_text("warfarin\n")
    found = mmtune.score(tmp_path / "ref.txt", tmp_path / "hyp.txt", terms=other)
    assert any("no term of" in note for note in found.notes)


def test_another_language_has_its_own_rules(tmp_path: Path) -> None:
    path = tmp_path / "de.jsonl"
    row = {"id": "1", "language": "German", "text": "Er kam nicht", "hyp": "er kam"}
    path.write_text(json.dumps(row) + "\n")
    figures = {f.metric: f.value.value for f in mmtune.score(path, path).figures}
    assert figures["negation errors"] == 1


WRONG: dict[str, tuple[str, str, str]] = {
    "lines": ("a\nb\n", "a\n", "has 2 texts, and .* has 1: lines without ids are paired by"),
    "missing": (
        '{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n', '{"id": "1", "text": "a"}\n',
        "no text for 1 of 2 rows of .*/ref.jsonl, the first: line 2, '2'",
    ),
    "twice": (
        '{"id": "1", "text": "a"}\n', '{"id": "1", "text": "a"}\n{"id": "1", "text": "b"}\n',
        "hyp.jsonl: line 2 and line 1 both have the id '1'",
    ),
    "other names": (
        '{"id": "1", "text": "a"}\n', '{"id": "x", "text": "a"}\n', "no row of .* has a name of",
    ),
    "no column": (
        '{"id": "1", "words": "a"}\n', '{"id": "1", "heard": "a"}\n',
        "line 1: no column for the text .* it has 'id', 'heard'",
    ),
    "no text": ('{"id": "1", "text": ["a"]}\n', '{"id": "1", "text": "a"}\n', "holds a JSON list"),
    "no row": ('{"id": "1", "text": "a"\n', '{"id": "1", "text": "a"}\n', "the line is no row"),
    "language": (
        '{"id": "1", "text": "a", "language": "qqq"}\n', '{"id": "1", "text": "a"}\n',
        "line 1: language 'qqq'",
    ),
    "empty": ("", '{"id": "1", "text": "a"}\n', "ref.txt holds no text"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place_and_a_cure(tmp_path: Path, case: str) -> None:
    one, two, words = WRONG[case]
    paths = []
    for name, text in (("ref", one), ("hyp", two)):
        paths.append(tmp_path / f"{name}{'.jsonl' if text.startswith('{') else '.txt'}")
        paths[-1].write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        mmtune.score(*paths)
    assert caught.value.cure


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = json_lines(tmp_path / "ref.jsonl", "text")
    second = json_lines(tmp_path / "hyp.jsonl", "hypothesis", "heard")
    assert main(["score", str(first), str(second)]) == 2
    assert "--column NAME" in capsys.readouterr().err
    assert main(["score", str(first), str(second), "--column", "heard"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"WER {by_jiwer(ROWS).wer:.3f} [")
    assert main(["score", str(first), str(second), "--column", "heard", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["words"] == sum(len(normalize(row["text"], "en").split()) for row in ROWS)
    with pytest.raises(MmtuneError, match="no such file or folder"):
        mmtune.score(tmp_path / "nothing", second)


def test_no_model_library_is_loaded(tmp_path: Path) -> None:
    first = lines(tmp_path / "ref.txt", "text")
    code = (
        f"import mmtune, sys\nmmtune.score({str(first)!r}, {str(first)!r})\n"
        "print(*[n for n in ('torch', 'transformers', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
