"""The terminology recipe, end to end on a tiny list, as its script runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mmtune.runs.recipes import load_recipe
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.system.resources import resource
from tests.speech.real import ESPEAK, TINY, needs

needs_speech = needs(TINY, ESPEAK)


def test_settings_of_the_recipe() -> None:
    config = load_recipe("terminology", {"terms": "terms.txt", "utterances": "3"})
    assert (config.modality, config.base) == ("speech", "starter:whisper-tiny.en")
    assert config.task.model_dump()["terms"] == Path("terms.txt")
    # Recordings of anything: no list of ours says which of their words are terms.
    assert load_recipe("terminology", {"data": "calls"}).task.model_dump()["terms"] is None


@pytest.mark.slow
@needs_speech
def test_control_adapter_and_report_from_a_term_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("metoprolol\n[unseen]\napixaban\n", encoding="utf-8")
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    others = {"out": tmp_path, "utterances": 6, "epochs": 1, "rank": 4, "joined": 0.1}
    others |= {"scales": "[1.0]", "probes": 1}
    pairs = [f"{key}={value}" for key, value in others.items()]
    arguments = ["--terms", str(terms), "--set", *pairs]
    monkeypatch.setattr(sys, "argv", ["terminology.py", *arguments])
    monkeypatch.syspath_prepend(str(resource("recipes", "terminology")))
    monkeypatch.delitem(sys.modules, "terminology", raising=False)
    import terminology

    terminology.main()
    printed = capsys.readouterr().out
    assert "general speech not measured" in printed
    run, control = tmp_path / "terminology", tmp_path / "terminology-control"
    for folder in (run, control):
        assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert "metoprolol" not in (control / "data" / "manifest.jsonl").read_text("utf-8")
    comparison = json.loads((run / "comparison.json").read_text("utf-8"))
    recall = {m["slice"]: m for m in comparison["measures"] if m["metric"] == "term recall"}
    assert {"seen terms", "unseen terms"} <= set(recall)
    assert all(m["control"] is not None for m in comparison["measures"])
    assert (run / "report.html").is_file()


def test_the_list_of_the_demo_is_what_the_page_says() -> None:
    terms = read_terms(find_terms(Path("medical")))
    assert len(terms) >= 40
    assert 3 * sum(not term.seen for term in terms) >= len(terms)
