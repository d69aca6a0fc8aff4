"""Which setting a name means: other programs' names, short names, near ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmtune.errors import ConfigError
from mmtune.runs.modalities import modality_names
from mmtune.runs.recipes import configure
from mmtune.settings.foreign_names import BY_NAME, NAMES, Elsewhere
from mmtune.settings.naming import SHORT_NAMES, resolve, sections
from tests.settings.models import ALL, of_modality

RECIPE = {"recipe": "mine", "modality": "image", "base": "b"}
# A value for each setting that another program's name stands for, which isn't its default.
VALUES: dict[str, Any] = {
    "base": "other",
    "data.path": "here",
    "name": "other",
    "cache": False,
    "train.lr": 0.5,
    "train.epochs": 7,
    "train.max_steps": 7,
    "train.schedule": "linear",
    "train.warmup": 0.5,
    "train.clip": 7.0,
    "train.precision": "bf16",
    "train.validate_every": 7,
    "train.patience": 7,
    "train.checkpoint_every": 7,
    "train.keep": 7,
    "train.tracker": "wandb",
    "lora.rank": 7,
    "lora.alpha": 7.0,
    "lora.dropout": 0.5,
    "lora.targets": ("q_proj", "v_proj"),
    "lora.rslora": True,
    "lora.dora": True,
    "task.caption_dropout": 0.5,
    "task.min_snr": 7.0,
    "task.flip": True,
    "task.buckets": True,
    "task.text_encoder": True,
    "task.prior": 7,
    "task.prior_weight": 7.0,
}


def value_of(config: object, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_no_name_of_another_program_is_ours_or_stands_twice() -> None:
    ours = {name.rpartition(".")[2] for name in ALL} | set(ALL) | sections(ALL) | set(SHORT_NAMES)
    assert set(BY_NAME) & ours == set()
    assert len(BY_NAME) == len(NAMES)
    for other in NAMES:
        assert bool(other.ours) != bool(other.answer), other.name
        assert other.ours in {"", *ALL}, other.name
        assert other.programs, other.name


@pytest.mark.parametrize("other", [n for n in NAMES if n.ours], ids=lambda other: other.name)
def test_a_name_of_the_same_meaning_is_taken(other: Elsewhere) -> None:
    wanted = VALUES[other.ours]
    text = ",".join(wanted) if isinstance(wanted, tuple) else str(wanted)
    section, _, _ = other.ours.rpartition(".")
    inside: dict[str, Any] = {other.name: wanted}
    for config in (
        configure(RECIPE, "x", {other.name: text}),
        configure(RECIPE, "x", {other.name.replace("_", "-"): wanted}),
        configure({k: v for k, v in RECIPE.items() if k != other.ours} | inside, "x", {}),
        configure(RECIPE | {section: inside} if section else RECIPE | inside, "x", {})
        if other.ours != "base"
        else configure(RECIPE, "x", inside),
    ):
        found = value_of(config, other.ours)
        assert (str(found) if other.ours == "data.path" else found) == wanted


@pytest.mark.parametrize("other", [n for n in NAMES if n.answer], ids=lambda other: other.name)
def test_a_name_of_another_meaning_is_answered(other: Elsewhere) -> None:
    for values, overrides in (
        (RECIPE, {other.name: "1"}),
        (RECIPE | {other.name: 1}, {}),
        (RECIPE | {"train": {other.name: True}}, {}),
    ):
        with pytest.raises(ConfigError, match=other.name) as caught:
            configure(values, "x", overrides)
        assert caught.value.cure == other.answer
        assert other.programs[0] in caught.value.found


def test_the_names_of_the_issue_are_known() -> None:
    known = "learning_rate num_train_epochs per_device_train_batch_size output_dir lora_alpha r "
    known += "gradient_accumulation_steps fp16 network_dim optimizer_type max_seq_length"
    assert set(known.split()) <= set(BY_NAME)
    with pytest.raises(ConfigError, match="gradient_accumulation_steps") as caught:
        configure(RECIPE, "x", {"gradient_accumulation_steps": "4"})
    assert "batch_size counts all rows" in caught.value.cure
    assert "micro_batch" in caught.value.cure


def test_values_that_are_written_otherwise_there() -> None:
    config = configure(RECIPE, "x", {"report_to": "none", "mixed_precision": "no"})
    assert (config.train.tracker, config.train.precision) == (None, "fp32")


def test_a_setting_that_only_another_modality_has() -> None:
    with pytest.raises(ConfigError, match=r"'min_snr_gamma' is task\.min_snr in mmtune"):
        configure(RECIPE | {"modality": "speech"}, "x", {"min_snr_gamma": "5"})


def test_brand_means_the_guide_in_all_commands() -> None:
    for given in ({"brand": "b.yaml"}, {"brand_guide": "b.yaml"}, {"task.brand": "b.yaml"}):
        assert value_of(configure(RECIPE, "x", given), "task.brand_guide") == Path("b.yaml")
    with pytest.raises(ConfigError, match=r"are one setting, task\.brand_guide"):
        configure(RECIPE, "x", {"brand": "b.yaml", "brand_guide": "c.yaml"})
    with pytest.raises(ConfigError, match="unknown setting 'brand'"):
        configure(RECIPE | {"modality": "speech"}, "x", {"brand": "b.yaml"})


@pytest.mark.parametrize("modality", modality_names())
def test_every_last_part_is_a_name_or_lists_what_it_may_mean(modality: str) -> None:
    known = [each.name for each in of_modality(modality)]
    for name in known:
        short = name.rpartition(".")[2]
        ends = [other for other in known if other.rpartition(".")[2] == short]
        assert resolve(name, known) == resolve(name.replace("_", "-"), known) == name
        if short in SHORT_NAMES:
            assert resolve(short, known) == SHORT_NAMES[short]
        elif len(ends) == 1:
            assert resolve(short, known) == name


def test_an_ambiguous_name_lists_its_candidates() -> None:
    with pytest.raises(ConfigError, match="'size' is ambiguous") as caught:
        resolve("size", ["a.size", "b.c.size", "a.other"])
    assert caught.value.cure == "use one of a.size, b.c.size"
    assert resolve("c.size", ["a.size", "b.c.size"]) == "b.c.size"


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("warmpu", "train.warmup"),
        ("lora.rnak", "lora.rank"),
        ("learning-rat", "train.lr"),
        ("num_epochs", "train.epochs"),
        ("trian", "train"),
        ("task.lr", "train.lr"),
        ("train.lora_alpha", "lora.alpha"),
    ],
)
def test_an_unknown_name_gives_the_nearest(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        resolve(key, list(ALL))
    hint, _, rest = caught.value.cure.partition("? ")
    assert near in hint.split()
    assert len([name for name in ALL if name in hint.split()]) <= 3
    assert "--help" in rest


def test_a_name_like_no_other_gives_three() -> None:
    with pytest.raises(ConfigError, match="xyzzy") as caught:
        resolve("xyzzy", list(ALL))
    names, _, rest = caught.value.cure.removeprefix("known: ").partition(" … ")
    assert len(names.split(", ")) == 3
    assert "--help" in rest


def test_a_section_is_no_setting() -> None:
    with pytest.raises(ConfigError, match=r"'lora' is a section") as caught:
        configure(RECIPE, "x", {"lora": "8"})
    assert "lora.rank" in caught.value.cure
