"""Verdicts on real trainings: one that helps, and one that forgets. Minutes each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmtune.runs.pipeline import RunResult, train
from mmtune.runs.recipes import load_recipe
from tests.speech.real import ESPEAK, TINY, needs, real_rows

pytestmark = [pytest.mark.slow, needs(TINY, ESPEAK)]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    terms = tmp_path / "terms.txt"
    terms.write_text("metoprolol\nwarfarin\ndigoxin\n[unseen]\napixaban\n", encoding="utf-8")
    other = tmp_path / "other" / "manifest.jsonl"
    other.parent.mkdir()
    with other.open("w", encoding="utf-8") as file:
        for row in real_rows(60):
            name = shutil.copy(row.audio, other.parent)  # a manifest's files lie beside it
            values = row.model_dump(mode="json", exclude={"content"})
            file.write(json.dumps(values | {"audio": Path(name).name}) + "\n")
    return {
        "terms": str(terms), "base": TINY, "retention": str(other), "retention_rows": "30",
        "out": str(tmp_path), "scales": "[1.0]", "probes": "10", "joined": "0", "utterances": "8",
    }  # fmt: skip


def trained(given: dict[str, str], **more: str) -> RunResult:
    return train(load_recipe("terminology", given | more))


def test_an_adapter_that_helps_may_be_shipped(given: dict[str, str]) -> None:
    # Of fewer than twenty terms nobody could say that it helps.
    verdict = trained(given, name="helps", terms="medical", utterances="5").verdict
    assert verdict is not None
    assert verdict.main.status == "passed", verdict.lines()
    assert verdict.decision != "keep the base", verdict.lines()


def test_one_that_was_trained_until_it_forgets_is_not(given: dict[str, str]) -> None:
    """Forty times the learning rate and nothing that keeps the base."""
    verdict = trained(
        given, name="forgets", lr="4.0e-2", epochs="6", utterances="3",
        keep_base="0", nonspeech="0", timestamps="0", clip="null",
    ).verdict  # fmt: skip
    assert verdict is not None
    assert verdict.decision == "keep the base", verdict.lines()
    failed = {gate.name for gate in verdict.gates if gate.status == "failed"}
    assert "general speech" in failed, verdict.lines()
