"""The trigger phrase: before captions everywhere, and never twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.cli import parse
from mmtune.data.rows import Row
from mmtune.image.corpus.prompt import prompt_of, with_trigger, with_triggers
from mmtune.image.diffusion.stages import text_part
from mmtune.image.image_row import ImageRow
from mmtune.runs.recipes import configure
from mmtune.training.randomness import Draw
from tests.image import tiny
from tests.image.test_task import make


@pytest.mark.parametrize(
    ("words", "trigger", "found"),
    [
        ("a red apple", "acme icon", "acme icon, a red apple"),
        ("an Acme Icon of an apple", "acme icon", "an Acme Icon of an apple"),
        ("an icon", "con", "con, an icon"),
        ("a red apple", "", "a red apple"),
        ("", "acme icon", "acme icon"),
        ("c++ book", "c++", "c++ book"),
    ],
)
def test_it_stands_before_what_does_not_hold_it(words: str, trigger: str, found: str) -> None:
    assert with_trigger(words, trigger) == found
    assert with_trigger(found, trigger) == found


def test_several_adapters_have_their_triggers_in_order() -> None:
    assert with_triggers("a car", ["one", "", "two", "one"]) == "one, two, a car"


def test_what_the_base_drew_has_no_trigger() -> None:
    row: Row = ImageRow(id="1", image="a.png", caption="an apple")
    assert prompt_of(row, "acme") == "acme, an apple"
    prior = row.model_copy(update={"group": {"mix": "prior"}})
    assert prompt_of(prior, "acme") == "an apple"


def test_training_reads_stores_and_samples_the_same_captions(tmp_path: Path) -> None:
    task = make(tmp_path, trigger=" acme  icon, ")
    row = task._brand[0]
    wanted = text_part(f"acme icon, {row.reference}")
    assert wanted in set(task.variants(row))
    seen = {
        p
        for epoch in range(60)
        for p in task.choose(row, Draw(0, epoch, row.id)).parts
        if p.stage == "text"
    }
    assert seen == {wanted, text_part("")}
    plain = make(tmp_path)
    assert task.features.key(wanted) != plain.features.key(text_part(row.reference))
    asked: list[str] = []
    task.sampler.sample = lambda prompts, seeds: asked.extend(prompts) or []  # type: ignore[method-assign]
    task.style_monitor.sample([(row, 0)])
    assert asked == [f"acme icon, {row.reference}"]


@pytest.mark.parametrize(
    ("extra", "found"), [([], ["acme icon"]), (["--no-trigger"], [])], ids=["used", "left-out"]
)
def test_generate_takes_it_from_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str], found: list[str]
) -> None:
    from mmtune.adapters.card import Card
    from mmtune.image.sampling import generate
    from mmtune.system.tensors import save_tensors

    config = tiny.config(tmp_path, tmp_path, tmp_path, trigger="acme icon")
    Card(
        name="n", recipe="r", modality="image", base="b", base_hash="h", dataset="d",
        rows={}, settings=config.model_dump(mode="json"),
    ).write(tmp_path)  # fmt: skip
    assert "trigger phrase" in (tmp_path / "README.md").read_text()
    save_tensors(tmp_path / "pytorch_lora_weights.safetensors", {"a": torch.ones(1)})
    given: dict[str, dict[Path, str]] = {}
    monkeypatch.setattr(generate, "generate", lambda *a, **more: given.update(more) or [])
    command, options = parse(["generate", "--adapter", str(tmp_path), "--prompt", "x", *extra])
    assert command(options) == 0
    assert list(given["triggers"].values()) == found


def test_none_by_default() -> None:
    values = {"recipe": "r", "modality": "image", "base": "b"}
    assert configure(values, "test", {}).task.trigger == ""  # type: ignore[attr-defined]
