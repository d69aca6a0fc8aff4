"""When a run's folder is taken, and when its name is still free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmtune.adapters.card import read_card
from mmtune.errors import BaseModelError, ConfigError
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import load_recipe
from mmtune.runs.trained_rows import read_recorded_rows
from mmtune.system.contents import SPLITS_FILE
from mmtune.training.reporter import Reporter
from tests.faults.test_kill import pictures, recordings
from tests.speech.real import TINY, needs


class Notes(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def settings(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"out": str(tmp_path), "name": "run", "base": "starter:icons"} | more


def test_a_command_that_failed_does_not_hold_the_name(tmp_path: Path) -> None:
    data = str(pictures(tmp_path / "data"))
    with pytest.raises(ConfigError, match="no such file or folder"):
        train(load_recipe("brand_style", settings(tmp_path, data=str(tmp_path / "nowhere"))))
    with pytest.raises(BaseModelError, match="nothing"):
        train(load_recipe("brand_style", settings(tmp_path, data=data, base="./nothing")))
    more = {"epochs": "1", "batch_size": "8", "task.steps": "2", "validation_images": "2"}
    more |= {"scales": "[1.0]"}  # the strengths have a test of their own
    good = settings(tmp_path, data=data, **more)
    (tmp_path / "data" / "1.png").write_bytes(b"no picture")
    told = Notes()
    train(load_recipe("brand_style", good | {"max_bad": "0.5"}), told)
    assert any(line.startswith("error undecodable: ") and "1.png" in line for line in told.lines)
    assert any(
        line.startswith("1 rows are left out; list them with mmtune check ") for line in told.lines
    )
    # The rows that were trained on are known, in the run and beside the data.
    rows = {each.id: each.split for each in read_recorded_rows(tmp_path / "run") or ()}
    kept = [json.loads(line) for line in (tmp_path / "data" / SPLITS_FILE).read_text().splitlines()]
    trained = {each["id"] for each in kept[1:] if each["trained"]}
    assert trained == {name for name, split in rows.items() if split == "train"}
    good |= {"max_bad": "0.5"}
    with pytest.raises(ConfigError, match=r"other settings: train\.lr"):
        train(load_recipe("brand_style", good | {"lr": "0.5"}))
    manifest = tmp_path / "data" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"alpha"', '"omega"'))
    with pytest.raises(ConfigError, match="has changed since"):
        train(load_recipe("brand_style", good))


@pytest.mark.slow
@needs(TINY)
def test_made_rows_and_strengths_are_in_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined windows and silence are trained on, and the strengths tried are written down."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = recordings(tmp_path / "data")
    given = {"data": str(data), "base": TINY, "epochs": "1", "batch_size": "8", "rank": "2"}
    given |= {"joined": "0.2", "nonspeech": "0.1", "scales": "[0.5, 1.0]", "probes": "1"}
    told = Notes()
    result = train(load_recipe("terminology", settings(tmp_path) | given), told)
    card = read_card(result.folder / "adapter")
    added = card.rows["added"]
    made = [path.stem for path in (result.folder / "data" / "mix" / "audio").iterdir()]
    assert added == len(made)
    assert {name.split("-")[0] for name in made} == {"joined", "nonspeech"}
    [lacking] = [line for line in told.lines if line.startswith("suite  ")]
    assert "task.retention is not set" in lacking
    assert lacking.endswith("general speech, closely, general speech with repeats")
    assert any(line.startswith("added      ") and "1 nonspeech" in line for line in told.lines)
    assert [point["scale"] for point in card.sweep] == [0.0, 0.5, 1.0]
    assert card.scale in (0.5, 1.0)
    assert any(line.startswith("scale 1 ") for line in told.lines)
    found = {(m.metric, m.slice) for m in result.comparison.measures}
    assert ("hallucinated words/min", "non-speech") in found
    assert (
        train(load_recipe("terminology", settings(tmp_path) | given)).fit.steps == result.fit.steps
    )


def test_dora_has_one_strength() -> None:
    with pytest.raises(ConfigError, match=r"DoRA has no strength between"):
        load_recipe("terminology", {"lora.dora": "true", "scales": "[0.5]"})
    assert load_recipe("terminology", {"lora.dora": "true"}).lora.dora
