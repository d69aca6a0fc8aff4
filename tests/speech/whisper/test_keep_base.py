"""The base's own prediction as a part of the target: which words it covers, and what it does."""

from __future__ import annotations

from pathlib import Path

import pytest
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
from mmtune.speech.whisper.stages import KEPT, NAME
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
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
