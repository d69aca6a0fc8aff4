"""The training pass against transformers' and peft's own computations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmtune.config import LoraOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.speech_task import SpeechModule
from mmtune.speech.whisper.base import load_base, resolve_base
from mmtune.speech.whisper.decoder_lora import attach
from mmtune.speech.whisper.forward import can_absorb, decode_all
from mmtune.speech.whisper.labels import Labels, make_labels, pad_labels
from mmtune.speech.whisper.loss import frozen_cross_entropy, likely
from tests.speech.real import BASE, TINY, loaded, needs


@pytest.fixture(scope="module")
def adapted() -> Any:
    """tiny.en with a LoRA that was moved off its zero start."""
    base = load_base(TINY)
    model = attach(base, LoraOptions(rank=4, alpha=8), seed=1)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return base


def batch_of(base: Any, frames: int = 100) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    texts = ("thank you so much", "get out of my bed now please", "no")
    labels = [make_labels(base, SpeechRow(id=t, audio="a", text=t), "en") for t in texts]
    inputs, targets, mask = pad_labels(labels, base.ids["endoftext"])
    width = base.model.config.d_model
    hidden = torch.randn(len(texts), frames, width, generator=generator)
    return {"hidden": hidden, "inputs": inputs, "targets": targets, "mask": mask}


def gradients(base: Any, value: torch.Tensor) -> dict[str, torch.Tensor]:
    base.model.zero_grad()
    value.backward()
    named = base.model.named_parameters()
    return {n: p.grad.clone() for n, p in named if p.grad is not None}


@needs(TINY)
def test_absorbed_pass_equals_the_decoder(adapted: Any) -> None:
    decoder, batch = adapted.model.model.decoder, batch_of(adapted)
    assert can_absorb(decoder, batch["inputs"].shape[1])
    weights = torch.randn(batch["mask"].shape, generator=torch.Generator().manual_seed(5))
    ours = decode_all(decoder, batch["inputs"], batch["hidden"])
    theirs = decoder(
        input_ids=batch["inputs"], encoder_hidden_states=batch["hidden"], use_cache=False
    ).last_hidden_state
    mask = batch["mask"]
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-4, atol=1e-3)
    a = gradients(adapted, (ours.mean(-1) * weights)[mask].sum())
    b = gradients(adapted, (theirs.mean(-1) * weights)[mask].sum())
    assert a.keys() == b.keys()
    assert len(a) == 4 * 10 * 2  # layers x adapted linears x (A, B)
    for name in a:
        assert (a[name] - b[name]).norm() <= 1e-4 * b[name].norm() + 1e-7, name


@needs(TINY)
def test_long_texts_and_dropout_take_the_usual_pass(adapted: Any) -> None:
    decoder = adapted.model.model.decoder
    assert not can_absorb(decoder, 64)  # a head of tiny is 64 wide
    base = load_base(TINY)
    attach(base, LoraOptions(rank=2, dropout=0.1), seed=0)
    assert not can_absorb(base.model.model.decoder, 10)


@pytest.mark.parametrize("n", [1, 255, 600])
def test_frozen_cross_entropy(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    hidden = torch.randn(n, 16, generator=generator, requires_grad=True)
    weight = torch.randn(101, 16, generator=generator)
    targets = torch.randint(101, (n,), generator=generator)
    scale = torch.rand(n, generator=generator)
    states, keep = torch.randn(n, 16, generator=generator), torch.rand(n, generator=generator)
    ids, probabilities = kept = likely(states, weight)
    logits = hidden @ weight.T
    entropy = nn.functional.cross_entropy(logits, targets, reduction="none")
    teacher = torch.zeros(n, 101).scatter(1, ids.long(), probabilities)
    full = (states @ weight.T).softmax(-1)
    nearly = full.masked_fill(teacher == 0, 0.0)
    torch.testing.assert_close(teacher, nearly / nearly.sum(-1, keepdim=True))
    divergence = nn.functional.kl_div(logits.log_softmax(-1), teacher, reduction="none").sum(-1)
    for extra, theirs in (
        ((), entropy),
        ((kept, keep), (1 - keep) * entropy + keep * divergence),
        ((kept, torch.zeros(n)), entropy),
    ):
        ours = frozen_cross_entropy(hidden, weight, targets, *extra)
        (gradient,) = torch.autograd.grad((ours * scale).sum(), hidden)
        (expected,) = torch.autograd.grad((theirs * scale).sum(), hidden, retain_graph=True)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradient, expected)


@needs(TINY)
def test_loss_equals_transformers_on_correct_labels() -> None:
    # The same targets, given to transformers with explicit decoder_input_ids and -100 for the rest.
    base = loaded(TINY)
    batch = batch_of(base)
    from transformers.modeling_outputs import BaseModelOutput

    with torch.no_grad():
        ours = SpeechModule(base.model)(batch)
        theirs = base.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=batch["hidden"]),
            decoder_input_ids=batch["inputs"],
            labels=batch["targets"].masked_fill(~batch["mask"], -100),
        ).loss
    assert ours.units.tolist() == batch["mask"].sum(1).tolist()
    torch.testing.assert_close(ours.total.sum() / ours.units.sum(), theirs)


@needs(TINY)
def test_a_row_does_not_feel_its_batch_mates() -> None:
    base = loaded(TINY)
    batch = batch_of(base)
    module = SpeechModule(base.model)
    with torch.no_grad():
        together = module(batch)
        for i in range(3):
            n = int(batch["mask"][i].nonzero().max()) + 1
            alone = {"hidden": batch["hidden"][i : i + 1]} | {
                k: batch[k][i : i + 1, :n] for k in ("inputs", "targets", "mask")
            }
            torch.testing.assert_close(module(alone).total[0], together.total[i])


@needs(TINY, BASE)
@pytest.mark.parametrize(("starter", "start"), [(TINY, 2), (BASE, 4)])
def test_labels_against_the_tokenizer(starter: str, start: int) -> None:
    base = loaded(starter)
    row = SpeechRow(id="a", audio="a", text="take metoprolol twice")
    labels = make_labels(base, row, "german")
    if base.multilingual:
        base.tokenizer.set_prefix_tokens(language="german", task="transcribe")
    else:
        base.tokenizer.set_prefix_tokens()
    assert list(labels.ids) == base.tokenizer(" " + row.text).input_ids
    assert labels.given == start
    inputs, targets, mask = pad_labels([labels, Labels(labels.ids[: start + 2], start)], 7)
    assert inputs[0].tolist() == list(labels.ids[:-1])
    assert targets[0].tolist() == list(labels.ids[1:])
    assert mask[0].nonzero()[0].item() == start - 1  # the last given id predicts the first word
    assert mask.sum(1).tolist() == [len(labels.ids) - start, 2]
    assert base.tokenizer.decode(targets[0][mask[0]], skip_special_tokens=True) == " " + row.text


@needs(TINY)
def test_the_saved_folder_is_plain_peft(adapted: Any, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import WhisperForConditionalGeneration

    from mmtune.config import LoraOptions
    from mmtune.speech.speech_options import SpeechOptions
    from mmtune.speech.speech_task import SpeechTask

    base = load_base(TINY)
    task = SpeechTask(base, LoraOptions(rank=4, alpha=8), SpeechOptions(), None)
    for name, parameter in task.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    task.save(tmp_path)
    plain = WhisperForConditionalGeneration.from_pretrained(resolve_base(TINY), dtype=torch.float32)
    loaded_again = PeftModel.from_pretrained(plain, str(tmp_path))
    batch = batch_of(base)
    with torch.no_grad():
        ours = decode_all(base.model.model.decoder, batch["inputs"], batch["hidden"])
        theirs = loaded_again.get_base_model().model.decoder(
            input_ids=batch["inputs"], encoder_hidden_states=batch["hidden"]
        )
    torch.testing.assert_close(ours, theirs.last_hidden_state, rtol=1e-4, atol=1e-3)
    assert loaded_again.peft_config["default"].base_model_name_or_path == TINY
