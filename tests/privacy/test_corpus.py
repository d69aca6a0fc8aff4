"""The stored corpus of benchmarks/redaction.py: its size, and that its items are still found."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from mmtune.privacy.private_span import KINDS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "redaction.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("redaction_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_corpus_has_300_items_of_each_kind_and_60_by_hand(benchmark: ModuleType) -> None:
    generated = benchmark.read_generated()
    kinds = Counter(kind for dialogue in generated for kind, _ in dialogue.items)
    assert kinds == dict.fromkeys(KINDS, 300)
    by_hand = benchmark.read_by_hand()
    assert len({dialogue.id for dialogue in by_hand}) == 60
    assert {kind for dialogue in by_hand for kind, _ in dialogue.items} == set(KINDS)
    assert not any("[[" in turn for each in (*generated, *by_hand) for turn in each.turns)


def test_items_of_each_language_are_found(benchmark: ModuleType) -> None:
    dialogues = benchmark.read_generated()[::25]
    assert {dialogue.language for dialogue in dialogues} == {"en", "de", "fr", "es"}
    counts = benchmark.count(dialogues, by_row=False, show=False)
    assert counts.found == counts.items == dict.fromkeys(KINDS, 12)
    # A finder that finds nothing would miss them all.
    nothing = Counter(dict.fromkeys(KINDS, 0))
    for each in dialogues:
        each.turns = ["nothing to see" + "." * len(turn) for turn in each.turns]
    assert benchmark.count(dialogues, by_row=False, show=False).false == +nothing
