"""The speech task by itself and in the loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.config import LoraOptions, TrainOptions
from mmtune.data.cache import PrefixCache
from mmtune.errors import ConfigError, DataError
from mmtune.speech.base import load_base
from mmtune.speech.lora import targets
from mmtune.speech.options import SpeechOptions
from mmtune.speech.rows import SpeechRow
from mmtune.speech.task import SpeechTask
from mmtune.train.draw import Draw
from mmtune.train.loop import fit
from tests.speech.real import TINY, loaded, needs, real_rows


def make_task(cache: Path | None = None) -> SpeechTask:
    lora = LoraOptions(rank=8, alpha=16)
    stored = PrefixCache(cache) if cache else None
    return SpeechTask(load_base(TINY), lora, SpeechOptions(), stored, seed=3)


@needs(TINY)
def test_it_learns_real_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtune.speech.task.SPOKEN", 40)
    rows = [r for r in real_rows(40, step=3) if (r.duration_s or 9) <= 4][:8]
    task = make_task(tmp_path / "cache")
    options = TrainOptions(epochs=6, batch_size=8, lr=2e-3, schedule="constant")
    result = fit(task, rows, rows[:4], options, tmp_path / "run")
    assert set(result.base) == {"wer", "loss"}
    assert result.best["loss"] < 0.5 * result.base["loss"]
    assert result.best["wer"] < 0.2
    assert task.validate(rows[:4])["wer"] == result.best["wer"]  # the best weights are in it


@needs(TINY)
def test_validation_does_not_follow_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The untuned base repeats itself on some trimmed windows; one such row must not be all."""
    task = make_task()
    row = next(r for r in real_rows(80, step=3) if r.id == "004570129")
    with torch.no_grad():
        cut = task.validate([row])["wer"]
        monkeypatch.setattr("mmtune.speech.task.SLACK", 10**6)
        followed = task.validate([row])["wer"]
    assert followed > 10
    assert 0 < cut <= 1 + (2 * len(task.labels(row).ids) + 8) / len(row.text.split())


@needs(TINY)
def test_only_the_decoders_adapter_trains(tmp_path: Path) -> None:
    task = make_task()
    (group,) = task.param_groups()
    names = [n for n, p in task.model.named_parameters() if p.requires_grad]
    assert len(names) == len(group["params"]) == 4 * 10 * 2
    assert all(".decoder.layers." in n and ".lora_" in n for n in names)
    again = make_task()
    pairs = zip(group["params"], again.param_groups()[0]["params"], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)  # the seed decides


@needs(TINY)
def test_collate_and_loss_follow_the_rows() -> None:
    task = make_task()
    rows = [r for r in real_rows(40, step=3) if task.bucket(r) == "5s"][:2]
    examples = [task.choose(row, Draw(0, 0, row.id)) for row in rows]
    stored = task.features.get([part for e in examples for part in e.parts])
    batch = task.collate(examples, [{"audio": s} for s in stored], [])
    assert batch["hidden"].shape == (2, 250, 384)
    loss = task.module(batch)
    assert loss.total.shape == loss.units.shape == (2,)
    words = [len(task.labels(row).ids) - task.labels(row).given for row in rows]
    assert loss.units.tolist() == words


@needs(TINY)
def test_a_text_that_has_no_room_is_named() -> None:
    base = loaded(TINY)
    from mmtune.speech.labels import make_labels

    row = SpeechRow(id="novel", audio="a", text="metoprolol " * 200)
    with pytest.raises(DataError, match=r"row 'novel': .* tokens; .* has room for 448"):
        make_labels(base, row, "en")


def test_targets_are_the_decoders() -> None:
    import re

    pattern = targets(("q_proj", "fc1"))
    assert re.fullmatch(pattern, "model.decoder.layers.3.encoder_attn.q_proj")
    assert re.fullmatch(pattern, "model.decoder.layers.11.fc1")
    assert not re.fullmatch(pattern, "model.encoder.layers.3.self_attn.q_proj")
    assert not re.fullmatch(pattern, "model.decoder.layers.3.self_attn.k_proj")
    crossed = targets(("encoder_attn.q_proj", "fc2"), (2, 3))
    assert re.fullmatch(crossed, "model.decoder.layers.0.encoder_attn.q_proj")
    assert re.fullmatch(crossed, "model.encoder.layers.3.fc2")
    assert not re.fullmatch(crossed, "model.decoder.layers.0.self_attn.q_proj")
    assert not re.fullmatch(crossed, "model.encoder.layers.1.fc2")
    with pytest.raises(ConfigError, match="in the decoder alone"):
        targets(("encoder_attn.q_proj",), (2, 3))
    with pytest.raises(ConfigError, match="'query'"):
        targets(("query",))
    with pytest.raises(ConfigError, match="did you mean 'out_proj'"):
        targets(("o_proj", "out_prj"))
