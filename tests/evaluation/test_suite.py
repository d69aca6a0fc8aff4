"""Suites: found by name, extended, explained when wrong; what they will lack is said beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmtune.config import read_yaml
from mmtune.errors import ConfigError
from mmtune.evaluation.suite import Suite, load_suite, suites, unmet
from mmtune.metrics.explained import explain
from mmtune.runs import pipeline
from mmtune.runs.folder import keep_suite
from mmtune.runs.recipes import configure, load_recipe
from mmtune.system.resources import recipes, resource


@pytest.fixture(scope="module")
def terminology() -> Suite:
    return load_suite("terminology")


def test_every_recipe_has_a_suite_of_its_modality() -> None:
    for name in recipes():
        config = configure(read_yaml(resource("recipes", name) / "recipe.yaml"), name, {})
        assert config.suite in suites()
        suite = load_suite(config.suite, config.modality)
        assert suite.name == config.suite
        assert all(g.asks.endswith("?") for g in suite.gates)
        unsaid = {m.metric for m in (*suite.main, *suite.gates) if not explain(m.metric)}
        assert not unsaid, "say what it counts in mmtune/metrics/explained.py"


def test_what_will_lack_data_is_said_beforehand(terminology: Suite) -> None:
    config = load_recipe("terminology", {})
    assert [g.name for g in unmet(terminology, config)] == [
        "general speech", "repeats in general speech", "general speech, closely",
        "general speech with repeats",
    ]  # fmt: skip
    full = load_recipe("terminology", {"retention": "other.jsonl", "probes": "0"})
    assert {g.name for g in unmet(terminology, full)} == {"silence", "times", "other windows"}


GATE = {"name": "a", "asks": "Is it?", "metric": "WER", "slice": "test", "at_most": 0}
MAIN = [{"metric": "WER", "slice": "test"}]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gates": [GATE | {"levle": "must"}]}, r"'gates\[1\].levle'(?s:.*)did you mean level"),
        ({"gate": []}, r"unknown key 'gate'(?s:.*)did you mean gates"),
        ({"gates": [GATE | {"at_least": 1}]}, "give either at_most or at_least"),
        ({"gates": [GATE, GATE]}, "two gates are named 'a'"),
        ({"gates": [{k: v for k, v in GATE.items() if k != "asks"}]}, r"'gates\[1\].asks' is mis"),
        ({"gates": [GATE | {"end": "top"}]}, r"gates\[1\].end = 'top'"),
        ({"gates": [GATE | {"needs": "task.retension"}]}, r"did you mean task\.retention"),
        ({"main": []}, "main"),
        ({"modality": "speeech"}, "is a suite for speeech, but the run is for speech"),
    ],
)
def test_a_wrong_suite_is_explained(tmp_path: Path, values: dict[str, object], said: str) -> None:
    path = tmp_path / "suite.yaml"
    whole = {"name": "s", "modality": "speech", "main": MAIN} | values
    path.write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match=said):
        pipeline.suite_for(str(path), "speech")


def test_a_suite_extends_another(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(
        "name: ours\nextends: speech\nmain:\n  - {metric: CER, slice: test}\ngates:\n"
        "  - {name: silence, asks: 'Is it silent?', metric: WER, slice: test, at_most: 0}\n"
    )
    (tmp_path / "stricter.yaml").write_text("name: stricter\nextends: ours.yaml\n")
    ours, speech = load_suite(str(tmp_path / "stricter.yaml")), load_suite("speech")
    assert (ours.name, ours.modality) == ("stricter", "speech")
    assert [one.metric for one in ours.main] == ["CER", "WER", "WER"]
    assert sorted(g.name for g in ours.gates) == sorted(g.name for g in speech.gates)
    assert next(g for g in ours.gates if g.name == "silence").metric == "WER"
    assert [g for g in ours.gates if g.name != "silence"] == [
        g for g in speech.gates if g.name != "silence"
    ]
    keep_suite(tmp_path, str(tmp_path / "stricter.yaml"))
    (tmp_path / "ours.yaml").write_text("name: ours\nextends: stricter.yaml\n")
    assert load_suite(str(tmp_path / "suite.yaml")) == ours, "the run's own is whole by itself"
    with pytest.raises(ConfigError, match="extends itself"):
        load_suite(str(tmp_path / "ours.yaml"))
    (tmp_path / "ours.yaml").write_text("name: ours\nextends: speech\ngatse: []\n")
    with pytest.raises(ConfigError, match="did you mean gates"):
        load_suite(str(tmp_path / "stricter.yaml"))


def test_a_suite_is_found_by_name_or_refused() -> None:
    with pytest.raises(ConfigError, match=r"did you mean dialect\?"):
        load_suite("dialekt")
    with pytest.raises(ConfigError, match="is a suite for image"):
        load_suite("brand_style", "speech")
