"""The task's promises to the loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.data.check import check
from mmtune.errors import ConfigError, DataError
from mmtune.image import MODALITY
from mmtune.image.brand.words_beside import GUIDE_FILE, words_of
from mmtune.image.corpus.evaluation_rows import held_out_rows
from mmtune.image.diffusion.stages import text_part
from mmtune.image.image_task import ImageTask
from mmtune.training.randomness import Draw
from mmtune.training.task import Loss
from tests.image import tiny


def make(tmp_path: Path, kind: str = "sdxl-one-encoder", **over: str) -> ImageTask:
    config = tiny.config(tiny.saved(kind), tiny.brand(tmp_path / "brand"), tmp_path, **over)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    return ImageTask(config, dataset, tiny.loaded(kind), None)


def losses(task: ImageTask, rows: list, epoch: int = 0) -> Loss:
    draws = [Draw(0, epoch, row.id) for row in rows]
    examples = [task.choose(row, draw) for row, draw in zip(rows, draws, strict=True)]
    stored = [
        {p.stage: v for p, v in zip(e.parts, task.features.get(e.parts), strict=True)}
        for e in examples
    ]
    return task.module(task.collate(examples, stored, draws))


@pytest.mark.parametrize("kind", tiny.KINDS)
@torch.no_grad()
def test_a_row_has_one_loss_in_any_batch(tmp_path: Path, kind: str) -> None:
    task = make(tmp_path, kind)
    rows = list(task._brand)
    together = losses(task, rows).total
    reverse = losses(task, rows[::-1]).total.flip(0)
    alone = torch.cat([losses(task, [row]).total for row in rows])
    torch.testing.assert_close(together, reverse)
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, losses(task, rows, epoch=1).total)


def test_a_guide_that_is_gone_when_the_adapter_is_saved(tmp_path: Path) -> None:
    guide = tmp_path / "brand.yaml"
    guide.write_text("forbidden_words: [cheap]\n")
    task = make(tmp_path, brand_guide=str(guide))
    guide.write_text("forbidden_words: [\n")
    task.save(tmp_path / "adapter")
    assert words_of(None, [tmp_path / "adapter"]) == {tmp_path / "adapter" / GUIDE_FILE: ("cheap",)}


def test_choices_stay_within_the_stored_variants(tmp_path: Path) -> None:
    task = make(tmp_path, flip="true", caption_dropout="0.3")
    row = task._brand[0]
    variants = set(task.variants(row))
    assert len(variants) == 4
    seen = [task.choose(row, Draw(0, epoch, row.id)) for epoch in range(400)]
    assert {part for example in seen for part in example.parts} == variants
    dropped = sum(text_part("") in example.parts for example in seen) / len(seen)
    assert 0.23 < dropped < 0.37
    plain = make(tmp_path, caption_dropout="0")
    assert set(plain.variants(row)) == {p for p in variants if p.view == 0 and p.origin != ""}


def test_one_of_several_captions_is_drawn_in_each_epoch(tmp_path: Path) -> None:
    task = make(tmp_path, caption_dropout="0", trigger="acme")
    row = task._brand[0].model_copy(update={"captions": ("a ball", "a red ball", "a toy")})
    texts = [task._text(row, words) for words in row.wordings]
    assert [part for part in task.variants(row) if part.stage == "text"] == texts
    drawn = [task.choose(row, Draw(0, epoch, row.id)).parts[1] for epoch in range(300)]
    assert all(80 < drawn.count(text) < 120 for text in texts)
    again = [task.choose(row, Draw(0, epoch, row.id)).parts[1] for epoch in range(300)]
    assert again == drawn, "a resumed run draws the same"
    assert texts[1].origin == "acme, a red ball"


def test_only_lora_trains_and_gets_gradients(tmp_path: Path) -> None:
    task = make(tmp_path)
    named = {n for n, p in task.module.named_parameters() if p.requires_grad}
    assert named
    assert all("lora_" in name for name in named)
    targets = {name.split(".lora_")[0].split("attn")[-1].split(".", 1)[1] for name in named}
    assert targets == {"to_q", "to_k", "to_v", "to_out.0"}
    loss = losses(task, list(task._brand[:3]))
    (loss.total.sum() / loss.units.sum()).backward()
    frozen = [n for n, p in task.module.named_parameters() if p.grad is not None]
    assert set(frozen) == named


@pytest.mark.parametrize("kind", ["sdxl", "sd"])
@torch.no_grad()
def test_noisy_steps_can_keep_the_layout_of_the_base(tmp_path: Path, kind: str) -> None:
    plain, kept = make(tmp_path, kind), make(tmp_path, kind, keep_layout="0.5")
    rows = list(plain._brand)
    noisy = torch.tensor([Draw(0, 0, row.id).integer("timestep", 1000) >= 500 for row in rows])
    assert 0 < noisy.sum() < len(rows)
    usual, found = losses(plain, rows).total, losses(kept, rows).total
    assert torch.equal(found[~noisy], usual[~noisy])
    # The target is the base's own prediction: an adapter that changes nothing is right.
    assert (losses(kept, rows).total[noisy] < 1e-8).all()
    for name, parameter in kept.module.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.1)
    assert (losses(kept, rows).total[noisy] > 1e-4).all()
    assert torch.equal(losses(kept, rows).total, losses(kept, rows).total)


def test_the_seed_decides_the_adapter_and_nothing_else_does(tmp_path: Path) -> None:
    make(tmp_path)  # the pipeline is made once a process, from the generator that is watched here

    def first(seed: str) -> torch.Tensor:
        state = torch.get_rng_state()
        task = make(tmp_path, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return next(iter(task.param_groups()[0]["params"])).detach()

    a, _, b = first("3"), torch.rand(7), first("3")
    assert torch.equal(a, b)
    assert not torch.equal(a, first("4"))


def test_validation_repeats_and_leaves_no_trace(tmp_path: Path) -> None:
    task = make(tmp_path)
    rows = check(tmp_path / "brand", MODALITY, MODALITY_DATA).split("validation")
    before = {n: p.clone() for n, p in task.module.state_dict().items()}
    first = task.validate(rows)
    assert {"style_distance", "loss"} <= first.keys()
    assert first == task.validate(rows[::-1])
    assert all(torch.equal(p, before[n]) for n, p in task.module.state_dict().items())
    assert task.monitor.name in first
    shown = task.samples(sounds=True)
    assert {each.expected for each in shown} == {f"{row.reference} (seed 0)" for row in rows}
    assert all(each.picture is not None and each.picture.shape[2] == 3 for each in shown)
    if "style" in first:  # the adapter is new: it is the base
        assert first["style"] == 0

    with torch.no_grad():
        for p in task.param_groups()[0]["params"]:
            p += 0.5
    assert task.validate(rows)["style_distance"] != first["style_distance"]
    # The LoRA is on again, and the judge's features were the base's.
    with torch.no_grad():
        on = losses(task, list(task._brand[:2])).total
        task.base.pipeline.unet.disable_lora()
        assert not torch.equal(losses(task, list(task._brand[:2])).total, on)


def test_settings_that_cannot_work_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resolution = 60: .* multiple of 8\n.*use 64"):
        make(tmp_path, resolution="60")
    with pytest.raises(ConfigError, match=r"lora\.targets"):
        make(tmp_path, targets="[no_such_layer]")


def test_too_few_images_are_refused_before_training(tmp_path: Path) -> None:
    config = tiny.config(tiny.saved("sd"), tiny.brand(tmp_path / "brand", count=2), tmp_path)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    with pytest.raises(DataError, match="a style needs two or more of each"):
        ImageTask(config, dataset, tiny.loaded("sd"), None)


def test_few_test_rows_are_joined_by_validation(tmp_path: Path) -> None:
    config = tiny.config(tiny.saved("sd"), tiny.brand(tmp_path / "brand", count=12), tmp_path)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    assert 0 < len(dataset.split("test")) < 4
    splits = {row.split for row in held_out_rows(dataset)}
    assert splits == {"test", "validation"}


MODALITY_DATA = tiny.config(Path(), Path(), Path()).data
