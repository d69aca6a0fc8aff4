"""The base's own prediction as a part of the target: which words it covers, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.config import LoraOptions, TrainOptions
from mmtune.metrics.text.term_finder import TermFinder
from mmtune.prefix.cache import PrefixCache
from mmtune.speech.speech_options import MixOptions, SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.forward import decode_all
from mmtune.speech.whisper.labels import make_labels
from mmtune.speech.whisper.loss import LIKELY
from mmtune.speech.whisper.stages import KEPT, NAME
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
from mmtune.training.task import Example
from tests.speech.real import TINY, loaded, needs, real_rows


@needs(TINY)
@settings(max_examples=60, deadline=None)
@given(
    before=st.text("ab é,.\t ", max_size=8),
    term=st.sampled_from(["metoprolol", "NSTEMI", "naïve Bayes", "心電図"]),
    after=st.text("cd è;! ", max_size=8),
)
def test_term_ids_are_those_that_write_the_term(before: str, term: str, after: str) -> None:
    base = loaded(TINY)
    row = SpeechRow(id="a", audio="a", text=f"{before} {term} {after}")
    labels = make_labels(base, row, "en", TermFinder([term])(row.text))
    written = base.tokenizer.decode([labels.ids[at] for at in labels.terms])
    assert term in written
    assert len(written.strip()) <= len(term) + 1  # a mark may share an id with the last letter
    assert all(labels.given <= at < len(labels.ids) - 1 for at in labels.terms)


def make_task(cache: Path, keep: float) -> SpeechTask:
    options = SpeechOptions(keep_base=keep, timestamps=0.0, mix=MixOptions(nonspeech=0))
    return SpeechTask(load_base(TINY), LoraOptions(rank=8), options, PrefixCache(cache), seed=3)


@needs(TINY)
def test_the_base_is_kept_but_for_the_terms(tmp_path: Path) -> None:
    task = make_task(tmp_path, 0.75)
    rows = [r for r in real_rows(40, step=3) if task.bucket(r) == "5s"][:3]
    word = rows[0].text.split()[1]
    rows[0] = rows[0].model_copy(update={"terms": (word,)})
    examples = [task.choose(row, Draw(0, 0, row.id)) for row in rows]
    assert [p for row in rows for p in task.variants(row)] == [p for e in examples for p in e.parts]
    stored = [
        dict(zip((NAME, KEPT), task.features.get(example.parts), strict=True))
        for example in examples
    ]
    batch = task.collate(examples, stored, [])
    at = [place - 1 for place in task.labels(rows[0]).terms]
    assert at
    keep = batch["mask"] * 0.75
    keep[0, at] = 0
    assert torch.equal(batch["keep"], keep)
    # A fresh adapter changes nothing, so it differs from the base only by what `likely` left out,
    # and its loss is a quarter of the cross-entropy, but for the term's, which counts whole.
    with torch.no_grad():
        mixed = task.module(batch).total
        plain = task.module({k: v for k, v in batch.items() if k != "keep"}).total
        states = decode_all(task.module.decoder, batch["inputs"], batch["hidden"])
        logs = task.module.project(states).log_softmax(-1)
        left = -logs.gather(2, batch["likely"].long()).logsumexp(-1)
    expected = plain / 4 + 0.75 * (left * batch["mask"]).sum(1)
    torch.testing.assert_close(mixed[1:], expected[1:], rtol=1e-3, atol=1e-3)
    assert mixed[0] > plain[0] / 4


@pytest.mark.slow
@needs(TINY)
def test_it_holds_the_adapter_near_the_base(tmp_path: Path) -> None:
    """Trained on wrong transcripts, an adapter that keeps the base believes them less."""
    losses = {}
    for keep in (0.0, 0.9):
        task = make_task(tmp_path / "cache", keep)
        rows = [r for r in real_rows(40, step=3) if (r.duration_s or 9) <= 4][:8]
        texts = [row.text for row in rows]
        wrong = [
            row.model_copy(update={"text": text})
            for row, text in zip(rows, [*texts[1:], texts[0]], strict=True)
        ]
        options = TrainOptions(epochs=20, batch_size=8, lr=2e-3, schedule="constant")
        fit(task, wrong, [], options, tmp_path / f"run{keep}")
        task._labels.clear()
        with torch.no_grad():
            losses[keep] = task.validate(rows)["loss"]
    assert losses[0.9] < 0.75 * losses[0.0]


STORED = str(Path(__file__).parents[2] / "conformance" / "stored" / "speech" / "base")


def small_task(keep: float, rank: int = 4) -> SpeechTask:
    """On a Whisper of a few thousand weights."""
    options = SpeechOptions(keep_base=keep, timestamps=1.0, views=2)
    return SpeechTask(load_base(STORED), LoraOptions(rank=rank), options, None, seed=3)


def batch_of(task: SpeechTask, rows: list[SpeechRow], speeds: list[float]) -> Any:
    """A batch of made-up states and predictions."""
    examples = [
        Example(row, (), {"prompt": row.prompt, "speed": speed})
        for row, speed in zip(rows, speeds, strict=True)
    ]
    stored = []
    for example in examples:
        spoken = task.labels(example.row, **example.choices).spoken
        kept = {"ids": torch.ones(spoken, LIKELY), "probabilities": torch.ones(spoken, LIKELY)}
        stored.append({NAME: {"hidden": torch.zeros(4, 8)}, KEPT: kept})
    return task.collate(examples, stored, [])


def test_the_base_is_kept_nowhere_else(tmp_path: Path) -> None:
    """Not for silence, the start, terms and moved times; and nowhere if it is switched off."""
    soundfile.write(tmp_path / "a.wav", np.full(16_000, 0.1, np.float32), 16_000)
    path = str(tmp_path / "a.wav")
    times = ({"start": 0.1, "end": 0.5, "text": "red boat"},)
    rows = [
        SpeechRow(id="plain", audio=path, text="red boat", segments=times),
        SpeechRow(id="fast", audio=path, text="red boat", segments=times),
        SpeechRow(id="term", audio=path, text="red boat", segments=times, terms=("boat",)),
        SpeechRow(id="silent", audio=path, text="", nonspeech=True),
        SpeechRow(id="asked", audio=path, text="red boat", segments=times, prompt="Before."),
    ]
    task = small_task(0.75)
    batch = batch_of(task, rows, [1.0, 1.1, 1.0, 1.0, 1.0])
    plain, fast, term, silent, asked = batch["keep"]
    labels = [task.labels(row, row.prompt) for row in rows]
    for row, keep, each in zip(rows, batch["keep"], labels, strict=True):
        counted = batch["mask"][rows.index(row)]
        assert not keep[~counted].any(), row.id
        assert set(keep.tolist()) <= {0.0, 0.75}, row.id
        assert each.given > 0
    # Of the plain row every id of the text is kept, times and end too; the start is not.
    assert plain.count_nonzero() == labels[0].spoken == batch["mask"][0].sum() - 1
    # At another speed its times differ from the base's, and its words don't.
    moved = [at - 1 for at in labels[1].times]
    assert len(moved) == 2
    assert not fast[moved].any()
    assert fast.count_nonzero() == labels[1].spoken - 2
    places = [at - 1 for at in labels[2].terms]
    assert places
    assert not term[places].any()
    assert term.count_nonzero() == labels[2].spoken - len(places)
    assert not silent.any()
    assert batch["mask"][3].sum() > 0
    assert asked.count_nonzero() == labels[4].spoken
    off = batch_of(small_task(0.0), rows, [1.0] * 5)
    assert off.keys() == {"hidden", "inputs", "targets", "mask"}


def test_a_start_that_is_learned_is_not_the_bases(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(16_000, 0.1, np.float32), 16_000)
    row = SpeechRow(id="a", audio=str(tmp_path / "a.wav"), text="red boat")
    options = SpeechOptions(keep_base=0.75, timestamps=0.0, mix=MixOptions(nonspeech=0.1))
    task = SpeechTask(load_base(STORED), LoraOptions(rank=4), options, None, seed=3)
    batch, labels = batch_of(task, [row], [1.0]), task.labels(row)
    assert labels.start is not None
    at, first = labels.start
    assert batch["mask"][0, at]
    assert batch["targets"][0, at] == first
    assert batch["keep"][0, at] == 0
    assert batch["keep"][0].count_nonzero() == labels.spoken


def test_what_is_kept_is_the_untuned_bases(tmp_path: Path) -> None:
    """The adapter is off while the base predicts, and on again afterwards."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    row = SpeechRow(id="a", audio=str(tmp_path / "a.wav"), text="red boat")
    task = small_task(0.75)
    [before] = task.features.get([task.kept.part(row)])
    batch = {
        "hidden": task.features.get([task.stage.part(row)])[0]["hidden"][None],
        "inputs": torch.tensor([task.labels(row).ids[:-1]]),
    }

    def states() -> torch.Tensor:
        with torch.no_grad():
            return decode_all(task.module.decoder, batch["inputs"], batch["hidden"])

    untuned = states()
    with torch.no_grad():
        for name, parameter in task.module.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    tuned = states()
    assert not torch.allclose(tuned, untuned, atol=1e-3)
    [after] = task.features.get([task.kept.part(row)])
    assert torch.equal(after["ids"], before["ids"])
    assert torch.equal(after["probabilities"], before["probabilities"])
    assert torch.equal(states(), tuned)
    # They are what the base predicts where the text begins: against its own softmax.
    logits = task.module.project(untuned)[0, task.labels(row).given - 1 :]
    top = logits.topk(LIKELY, dim=-1)
    torch.testing.assert_close(before["probabilities"], top.values.softmax(-1))
