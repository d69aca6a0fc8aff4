"""The speech task by itself and in the loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmtune.config import LoraOptions, TrainOptions
from mmtune.errors import ConfigError, DataError
from mmtune.prefix.cache import PrefixCache
from mmtune.speech.evaluation.items import hear
from mmtune.speech.sound import augment
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decoder_lora import targets
from mmtune.speech.whisper.labels import make_labels, pad_labels
from mmtune.speech.whisper.stages import spoken_times
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
from mmtune.training.task import Example
from tests.speech.real import BASE, TINY, loaded, needs, real_rows


def make_task(cache: Path | None = None, **limits: int) -> SpeechTask:
    lora = LoraOptions(rank=8, alpha=16)
    stored = PrefixCache(cache) if cache else None
    return SpeechTask(load_base(TINY), lora, SpeechOptions(), stored, seed=3, **limits)


@needs(TINY)
def test_it_learns_real_speech(tmp_path: Path) -> None:
    rows = [r for r in real_rows(40, step=3) if (r.duration_s or 9) <= 4][:8]
    task = make_task(tmp_path / "cache", max_ids=40)
    options = TrainOptions(epochs=6, batch_size=8, lr=2e-3, schedule="constant")
    result = fit(task, rows, rows[:4], options, tmp_path / "run")
    assert set(result.base) == {"wer", "loss"}
    assert result.best["loss"] < 0.5 * result.base["loss"]
    assert result.best["wer"] < 0.2
    assert task.validate(rows[:4])["wer"] == result.best["wer"]  # the best weights are in it
    shown = task.samples(sounds=True)
    assert {each.expected for each in shown} == {row.text for row in rows[:4]}
    assert all(each.text and each.sound is not None and each.sound.ndim == 1 for each in shown)
    assert [each.sound for each in task.samples(sounds=False)] == [None] * 4


@pytest.mark.slow
@needs(TINY)
def test_validation_does_not_follow_a_loop() -> None:
    """The untuned base repeats itself on some trimmed windows; one such row must not be all."""
    task = make_task()
    row = next(r for r in real_rows(80, step=3) if r.id == "004570129")
    with torch.no_grad():
        cut = task.validate([row])["wer"]
        followed = make_task(spare_ids=10**6).validate([row])["wer"]
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
    [last] = task.lighter("training")
    assert last == "a smaller --base"


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
    labels = [task.labels(row) for row in rows]
    assert [each.start is None for each in labels] == [bool(each.times) for each in labels]
    # The text and its end; and that somebody speaks, where a time doesn't say so already.
    words = [each.spoken + (each.start is not None) for each in labels]
    assert loss.units.tolist() == words


@needs(TINY)
def test_a_text_that_has_no_room_is_named() -> None:
    base = loaded(TINY)
    row = SpeechRow(id="novel", audio="a", text="metoprolol " * 200)
    with pytest.raises(DataError, match=r"row 'novel': .* tokens; .* reads at most 448"):
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
    with pytest.raises(ConfigError, match=r"the encoder has none of lora\.targets"):
        targets(("encoder_attn.q_proj",), (2, 3))
    with pytest.raises(ConfigError, match="'query'"):
        targets(("query",))
    with pytest.raises(ConfigError, match=r"did you mean out_proj"):
        targets(("o_proj", "out_prj"))


@needs(TINY)
def test_times_stand_around_the_text() -> None:
    base = loaded(TINY)
    zero = base.tokenizer.convert_tokens_to_ids("<|0.00|>")
    assert zero is None or zero == base.ids["notimestamps"] + 1
    row = SpeechRow(
        id="a",
        audio="a",
        text="take metoprolol twice",
        segments=[{"start": 0.5, "end": 1.22, "text": "take metoprolol"},
                  {"start": 2, "end": 29.98, "text": "twice"}],
    )  # fmt: skip
    labels = make_labels(base, row, "en", [(5, 15)], spoken_times(row))
    first = base.ids["notimestamps"] + 1
    assert base.ids["notimestamps"] not in labels.ids
    assert [labels.ids[at] - first for at in labels.times] == [25, 61, 100, 1499]
    assert labels.ids[labels.given] == first + 25
    words = [i for i in labels.ids[labels.given :] if i < base.ids["endoftext"]]
    assert base.tokenizer.decode(words) == " take metoprolol twice"
    written = base.tokenizer.decode([labels.ids[at] for at in labels.terms])
    assert written == " metoprolol"
    slower = make_labels(base, row, "en", (), spoken_times(row, 0.5))
    assert [slower.ids[at] - first for at in slower.times] == [50, 122, 200, 1500]
    nothing = make_labels(base, SpeechRow(id="n", audio="n", text="", nonspeech=True), "en")
    assert nothing.ids[nothing.given :] == (base.ids["endoftext"],)
    assert nothing.silent
    assert nothing.start == (0, base.ids["notimestamps"] - 1)
    assert base.tokenizer.convert_ids_to_tokens(nothing.start[1]) in (
        "<|nospeech|>",
        "<|nocaptions|>",
    )
    _, targets, mask = pad_labels([nothing, make_labels(base, row, "en")], 7)
    assert targets[0, 0] == nothing.start[1]
    assert mask[0].nonzero().flatten().tolist() == [0, nothing.given - 1]
    assert not mask[1, 0]
    told = make_labels(base, row.model_copy(update={"prompt": "Now:"}), "en", start=True)
    assert told.start is not None
    at, first = told.start
    assert told.ids[at : at + 2] == (base.ids["startoftranscript"], first)
    assert at == 3  # <|startofprev|>, two ids of the prompt
    assert not told.silent
    _, targets, mask = pad_labels([told], 7)
    assert mask[0, at]
    assert targets[0, at] == base.ids["notimestamps"]


@needs(TINY)
def test_a_prompt_gives_way_to_the_text() -> None:
    base = loaded(TINY)
    row = SpeechRow(id="a", audio="a", text="one two " * 150, prompt="before " * 300)
    labels = make_labels(base, row, "en")
    assert len(labels.ids) - 1 == 448
    bare = make_labels(base, row.model_copy(update={"prompt": None}), "en")
    assert labels.ids[-bare.spoken :] == bare.ids[-bare.spoken :]


@needs(TINY)
def test_views_are_stored_apart_in_one_window(tmp_path: Path) -> None:
    options = SpeechOptions(views=3, timestamps=1.0, keep_base=0.5)
    task = SpeechTask(load_base(TINY), LoraOptions(rank=4), options, PrefixCache(tmp_path), seed=3)
    row = real_rows(4)[0]
    parts = list(task.variants(row))
    assert [(p.stage, p.view) for p in parts] == [
        ("audio", 0), ("audio", 1), ("audio", 2), ("kept", 0)
    ]  # fmt: skip
    assert len({task.features.key(part) for part in parts}) == 4
    stored = task.features.get(parts)
    shapes = {value["hidden"].shape for value in stored[:3]}
    assert len(shapes) == 1
    assert not torch.equal(stored[0]["hidden"], stored[1]["hidden"])
    again = task.stage.encode([parts[1]])[0]
    assert torch.equal(again["hidden"], stored[1]["hidden"])  # the seed is the row's and the view's
    plain = SpeechTask(load_base(TINY), LoraOptions(rank=4), SpeechOptions(), None)
    if plain.bucket(row) == task.bucket(row):
        same = plain.features.get([plain.stage.part(row)])[0]["hidden"]
        assert torch.equal(same, stored[0]["hidden"])
    drawn = [task.choose(row, Draw(0, epoch, row.id)) for epoch in range(40)]
    assert {e.parts[0].view for e in drawn} == {0, 1, 2}
    for example in drawn:
        assert set(example.parts) <= set(parts)
        labels = task.labels(row, **example.choices)
        end = (labels.ids[labels.times[-1]] - task.base.ids["notimestamps"] - 1) * 0.02
        assert end <= (row.duration_s or 0) / example.choices["speed"] + 0.02


@needs(TINY)
def test_prompts_are_drawn(tmp_path: Path) -> None:
    listed = tmp_path / "terms.txt"
    listed.write_text("metoprolol\nshock\napixaban\nlisinopril\n")
    options = SpeechOptions(terms=listed, term_prompts=0.4, prompts=0.5)
    task = SpeechTask(load_base(TINY), LoraOptions(rank=4), options, None)
    row = SpeechRow(id="a", audio="a", text="the shock was too much", prompt="Good morning.")
    drawn = [task._prompt(row, Draw(0, epoch, row.id)) for epoch in range(400)]
    terms = [p for p in drawn if p and p != row.prompt]
    assert 120 < len(terms) < 200
    assert 80 < drawn.count(row.prompt) < 160
    assert 0.7 < sum("shock" in p for p in terms) / len(terms) <= 1
    assert {word for p in terms for word in p.split(", ")} == {
        "metoprolol", "shock", "apixaban", "lisinopril"
    }  # fmt: skip
    assert drawn == [task._prompt(row, Draw(0, epoch, row.id)) for epoch in range(400)]


@needs(TINY)
@pytest.mark.parametrize("dora", [False, True])
def test_what_is_computed_again_gives_the_same_gradients(dora: bool) -> None:
    """`train.gradient_checkpointing`, on our decoder's pass and on transformers' (DoRA)."""
    rows = sorted(real_rows(12), key=lambda row: row.duration_s or 9)[:2]
    found = []
    for again in (False, True):
        lora, options = LoraOptions(rank=4, dora=dora), SpeechOptions(encoder_layers=1)
        task = SpeechTask(load_base(TINY), lora, options, None, 3, again)
        task.module.train()
        draws = [Draw(0, 0, row.id) for row in rows]
        examples = [Example(row, (task.stage.part(row),), {"prompt": None}) for row in rows]
        stored = [{"audio": t} for t in task.features.get([e.parts[0] for e in examples])]
        batch, kept = task.collate(examples, stored, draws), 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = task.module(batch).total.sum()
        loss.backward()
        named = task.module.named_parameters()
        found.append((kept, {n: p.grad for n, p in named if p.grad is not None}))
    (whole, expected), (less, gradients) = found
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)
    assert less < 0.6 * whole


@needs(BASE)
def test_a_row_may_be_a_translation() -> None:
    base = loaded(BASE)
    row = SpeechRow(id="a", audio="a", text="good morning", language="de", task="translate")
    labels = make_labels(base, row, "en")
    names = base.tokenizer.convert_ids_to_tokens(list(labels.ids[: labels.given]))
    assert names == ["<|startoftranscript|>", "<|de|>", "<|translate|>", "<|notimestamps|>"]
    heard = SpeechPredictor(base, {})._prefix(row, "de")
    assert tuple(heard) == labels.ids[: labels.given]


@pytest.mark.slow
@needs(TINY)
def test_silence_is_learned(tmp_path: Path) -> None:
    """After a few steps on noise without words the model itself says that nobody speaks."""
    rows = []
    for i in range(6):
        noise = augment.silence(3 * 16_000, np.random.default_rng(i))
        soundfile.write(tmp_path / f"{i}.wav", noise, 16_000)
        path = str(tmp_path / f"{i}.wav")
        rows.append(SpeechRow(id=str(i), audio=path, text="", nonspeech=True))
    spoken = [r for r in real_rows(40, step=3) if (r.duration_s or 9) <= 4][:4]
    task = make_task(tmp_path / "cache")
    options = TrainOptions(epochs=8, batch_size=10, lr=2e-3, schedule="constant")
    fit(task, [*rows, *spoken], [], options, tmp_path / "run")
    task.save(tmp_path / "adapter")
    predictor = SpeechPredictor(TINY, {"a": tmp_path / "adapter"}, windows="padded")
    active = {"base": {}, "adapter": {"a": 1.0}}
    heard = hear(predictor, active, [*rows, *spoken])
    assert all(each["adapter"].value == "" for each in heard[:6])
    assert any(each["base"].value for each in heard[:6])
    assert all(each["adapter"].value for each in heard[6:])
