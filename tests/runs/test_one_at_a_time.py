"""Each command that writes is refused where another command works, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mmtune.pages.preference import read_review
from mmtune.pages.review import write_review
from mmtune.runs import pipeline
from mmtune.runs.recipes import load_recipe
from mmtune.system.files import aside
from mmtune.system.locks import Locked, locked, locked_name
from tests.pages.test_review import speech_run


def _run(folder: Path) -> Path:
    run = speech_run(folder / "run")
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return run


def _config(run: Path) -> object:
    return load_recipe("dialect", {"base": "b", "out": str(run.parent), "name": run.name})


def train(run: Path) -> None:
    pipeline.train(_config(run))  # type: ignore[arg-type]


def evaluate(run: Path) -> None:
    pipeline.evaluate(_config(run))  # type: ignore[arg-type]


def report(run: Path) -> None:
    pipeline.report([run])


def review(run: Path) -> None:
    write_review(run)


def answers(run: Path) -> None:
    page = write_review(run, run.parent / "page" / "review.html")
    key = json.loads(page.key.read_text())
    given = {"review": key["review"], "rater": "a", "answers": dict.fromkeys(key["sides"], "A")}
    path = run.parent / "answers.json"
    path.write_text(json.dumps(given))
    read_review(run, [path], page.key)


def compose_or_export(run: Path) -> None:
    with aside(run.parent / "out") as path:
        path.mkdir()
        path.rename(run.parent / "out")


WRITERS: list[Callable[[Path], None]] = [
    *(train, evaluate, report, review, answers, compose_or_export)
]


def content(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_a_writer_is_refused_where_another_works(
    tmp_path: Path, writer: Callable[[Path], None]
) -> None:
    run = _run(tmp_path)
    lock: AbstractContextManager[None] = locked(run)
    if writer is compose_or_export:
        lock = locked_name(tmp_path / "out")
    with lock:
        before = content(run)
        with pytest.raises(Locked, match="is in use by `"):
            writer(run)
        assert content(run) == before
    assert not (tmp_path / "out").exists()


def test_a_page_elsewhere_needs_no_lock_of_the_run(tmp_path: Path) -> None:
    run = _run(tmp_path)
    with locked(run):
        pipeline.report([run], tmp_path / "page.html")
        write_review(run, tmp_path / "elsewhere" / "review.html")
    assert (tmp_path / "page.html").is_file()
    assert (tmp_path / "elsewhere" / "review.html").is_file()


@pytest.mark.parametrize("writer", [report, review, answers, compose_or_export])
def test_a_writer_leaves_no_lock(tmp_path: Path, writer: Callable[[Path], None]) -> None:
    writer(_run(tmp_path))
    assert not list(tmp_path.rglob("*lock*"))
