"""Faults under the libraries, in part: calls of some writers and of a run of three steps.

`make test-faults` runs the commands of both modalities too, `make test-faults-all` the whole table.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.injection import KINDS, Fault, Outcome, library
from tests.faults.scenes import Scene, find, stage_of, targets
from tests.faults.table import Attack, attack, faults_of
from tests.faults.writers import PLANTED, WRITERS

pytestmark = pytest.mark.skipif(library() is None, reason="needs Linux and a C compiler")

# The kinds of faults take turns at the calls of these; `make test-faults-all` tries all at each.
IN_TURN = (
    "write_text", "manifest", "cache put", "checkpoint", "checkpoint again", "snapshot", "log",
    "answers", "card", "verdict", "captions", "init", "toy run",
)  # fmt: skip
MOST = 12  # calls of a writer that are tried
LIGHT = ("torch", "safetensors.torch", "mmtune.runs.pipeline", "mmtune.training.loop",
         "tests.faults.writers", "tests.training.toy", "accelerate")  # fmt: skip


@pytest.fixture(scope="module")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    runner = Attack(tmp_path_factory.mktemp("faults").resolve(), LIGHT)
    yield runner
    runner.close()


def scene(name: str) -> Scene:
    [found] = find([f"writer: {name}"])
    return found


def failures(attacker: Attack, which: Scene, faults: list[Fault]) -> list[str]:
    cases = [attacker.case(which, fault) for fault in faults]
    assert all(case["reached"] for case in cases)
    return [
        f"{case['fault']} {case['call']}: {case['outcome']}: {case['detail'][:200]}"
        for case in cases
        if case["outcome"] != "ok"
    ]


@pytest.mark.parametrize("name", IN_TURN)
def test_a_fault_at_any_call_is_an_error_and_loses_nothing(attacker: Attack, name: str) -> None:
    which, kinds = scene(name), list(KINDS)
    calls = sorted({fault.at for fault in faults_of(which, attacker.known(which), "small", 0)})
    assert len(calls) >= (30 if name == "toy run" else 3)
    # A part of the calls of the longer ones.
    some = calls[:: max(1, round(len(calls) / MOST))]
    faults = [Fault(kinds[(i + len(name)) % len(kinds)], at) for i, at in enumerate(some)]
    assert failures(attacker, which, faults) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint again", "toy run"])
def test_a_fault_at_each_call_loses_nothing(attacker: Attack, name: str) -> None:
    which, kinds = scene(name), list(KINDS)
    calls = sorted({fault.at for fault in faults_of(which, attacker.known(which), "small", 0)})
    faults = [Fault(kinds[i % len(kinds)], at) for i, at in enumerate(calls)]
    assert failures(attacker, which, faults) == []


def test_the_trace_names_the_writer_of_each_file(attacker: Attack) -> None:
    trace = attacker.known(scene("checkpoint")).trace
    written = {path.rpartition("/")[2] for call, path, _ in trace if call in ("write", "rename")}
    # torch writes in C++, safetensors in Rust, the rest is Python's.
    assert {"torch.pt", "state.json", "sha256.json", "step-0000001"} <= written
    assert any("safetensors" in path or ".tmp" in path for _, path, _ in trace)
    writing = (
        *("training/checkpoint.py", "system/files.py", "system/tensors.py"),
        "system/portable.py",  # fsync
    )
    # Three innermost functions are named, which may all belong to the writing of one file.
    assert all(functions.startswith(writing) for _, _, functions in trace)
    assert any("checkpoint.py:save_checkpoint" in functions for _, _, functions in trace)
    assert {"open", "write", "fsync", "rename", "mkdir"} <= {call for call, _, _ in trace}


@pytest.mark.parametrize(
    ("name", "kinds", "outcome"),
    [
        ("planted: in place", ("torn", "ENOSPC"), "lost"),
        ("planted: silent", ("ENOSPC",), "silent"),
        ("planted: partial stays", ("kill",), "left over"),
        ("planted: no cure", ("EIO",), "no cure"),
        ("planted: traceback", ("EIO",), "traceback"),
    ],
)
def test_the_table_sees_what_it_is_for(
    attacker: Attack, name: str, kinds: tuple[str, ...], outcome: str
) -> None:
    which = Scene(name, "", ("writer", name, "now"), ((("writer", name, "earlier"), Fault()),))
    calls = len(attacker.known(which).trace)
    found = [attacker.case(which, Fault(kind, at)) for kind in kinds for at in range(1, calls + 1)]
    assert any(outcome in case["outcome"].split(" + ") for case in found), found


def test_results_are_kept_and_a_repeat_runs_nothing_again(tmp_path: Path) -> None:
    out, which = tmp_path / "table.txt", [scene("mark")]
    first = attack(out, "small", 300, 0, which, ("PIL.Image", "tests.faults.writers"))
    assert len(first) >= 2
    written = (tmp_path / "table.txt.jsonl").read_text()
    assert attack(out, "small", 300, 0, which, ()) == first
    assert (tmp_path / "table.txt.jsonl").read_text() == written
    page = out.read_text()
    assert "writer: mark | " in page
    assert "writers covered" in page


def test_a_disk_of_fixed_size_that_is_full_is_an_error_with_a_cure(
    attacker: Attack, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("a tmpfs can't be mounted here")
    try:
        server = attacker.server
        for name in ("checkpoint", "manifest", "cache put"):
            for old in disk.rglob("*"):
                if old.is_file():
                    old.unlink()
            assert server.run(["writer", name, "earlier"], disk).code == 0
            before = oracle.tree(disk)
            (disk / "filler").write_bytes(bytes(_free(disk)))
            done = server.run(["writer", name, "now"], disk)
            assert done.code == 2, f"{name}: {done.code} {done.err}"
            assert "error: " in done.err
            assert "cure: " in done.err
            (disk / "filler").unlink()
            after = oracle.tree(disk)
            assert {n: after.get(n) for n in before} == before, name
            assert server.run(["writer", name, "now"], disk).code == 0
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_each_writer_is_in_the_table_and_each_file_has_a_stage() -> None:
    assert len(WRITERS) - len(PLANTED) >= 25
    assert {each.name for each in find([]) if not each.modality} == set(WRITERS) - PLANTED
    both = {each.name for each in find([]) if each.modality == "speech"}
    assert {"train", "evaluate", "compose", "report", "import", "transcribe"} <= both
    both = {each.name for each in find([]) if each.modality == "image"}
    assert {"train", "evaluate", "compose", "report", "review", "generate"} <= both
    stages = {
        "trained/new/checkpoints/step-0000001": "checkpoint write",
        "cache/prefix/ab/.partial-1": "precompute",
        "trained/new/adapter/card.json": "adapter save",
        "trained/new/verdict.json": "verdict",
        "corpus/audio/.1.partial": "import",
    }
    assert {path: stage_of(path) for path in stages} == stages


def test_the_stage_of_what_is_written_aside_is_that_of_its_last_name() -> None:
    one, other = (f"run/.partial-{digit * 32}" for digit in "ab")
    calls = [
        ("open", f"{one}/card.json"), ("mkdir", other), ("rename", other),
        ("rename", "run/adapter"), ("write", f"{other}.json"),
        ("rename", "run/verdict.json"), ("write", "run/log.jsonl"),
    ]  # fmt: skip
    found = targets([(call, path, "") for call, path in calls])
    assert found == ["run/adapter"] * 4 + ["run/verdict.json"] * 2 + ["run/log.jsonl"]


def test_a_hang_is_told_from_an_end(tmp_path: Path) -> None:
    done = oracle.after_fault(
        Outcome(None, "", "", 0), Fault("EIO", 1), {}, tmp_path, {}, set(), (), 0
    )
    assert done.kind == "hang"
