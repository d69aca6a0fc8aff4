"""The fuzzing itself: inputs that failed once, and that it can see what it looks for."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.__main__ import kept, shares
from tests.fuzz.inputs import make, packed, unpacked
from tests.fuzz.planted import BUGS
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]


def fuzz(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )


def test_what_failed_once_fails_no_more(tmp_path: Path) -> None:
    done = fuzz("--replay", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(kept()) > 15


@pytest.mark.slow
def test_the_fuzzing_finds_all_planted_bugs(tmp_path: Path) -> None:
    done = fuzz("--planted", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_planted_bugs_are_put_where_a_parser_is() -> None:
    assert len(BUGS) == 20
    for bug in BUGS.values():
        owner = importlib.import_module(bug.module)
        for name in bug.name.split("."):
            owner = getattr(owner, name)
        assert callable(owner)
        assert bug.target in TARGETS


@pytest.mark.parametrize("target", ["manifest", "table", "subtitles", "recipe", "run folder"])
def test_an_input_follows_from_its_number(target: str) -> None:
    made = [make(target, number, 3) for number in range(1, 40)]
    assert made == [make(target, number, 3) for number in range(1, 40)]
    assert len({str(files) for files in made}) > 25
    assert make(target, 0, 3) in [dict(files) for files in TARGETS[target].seeds()]


def test_a_mutation_changes_a_file_and_gives_bytes() -> None:
    chance = random.Random(0)
    files = {"a.csv": b"audio,text\na.wav,words\n", "a.json": b'{"a": [1, {"b": 2}]}',
             "a.yaml": b"a: 1\nb: [c]\n", "a.wav": corpus.sound("WAV", "PCM_16")}  # fmt: skip
    for name, data in files.items():
        results = [corpus.mutator_of(name)(data, chance) for _ in range(200)]
        assert all(isinstance(each, bytes) for each in results)
        assert sum(each != data for each in results) > 150


def test_inputs_are_stored_as_text_and_read_back() -> None:
    files = {"a.txt": "ü\n".encode(), "b.bin": b"\xff\x00"}
    assert unpacked(packed("manifest", files)) == files
    assert unpacked({"text": {"a": [["ab", 2], ["c", 1]]}, "base64": {}}) == {"a": b"ababc"}


def test_inputs_are_shared_by_weight() -> None:
    jobs = shares(1000, list(TARGETS.values()))
    assert abs(len(jobs) - 1000) < len(TARGETS)
    counts = [sum(target == name for target, _ in jobs) for name in ("manifest", "kaldi")]
    assert counts[0] == pytest.approx(2 * counts[1], abs=2)
