"""Settings of the methods: a recipe's that don't fit are dropped, a user's are refused."""

from __future__ import annotations

from typing import Any

import pytest

from mmtune.errors import ConfigError
from mmtune.methods import METHODS, SETTINGS, method_of_peft
from mmtune.runs.recipes import configure, load_recipe

RECIPE: dict[str, Any] = {
    "recipe": "r",
    "modality": "speech",
    "base": "b",
    "lora": {"rank": 8, "alpha": 16, "dropout": 0.1},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_what_it_has_of_a_recipe(method: str) -> None:
    config = configure(RECIPE, "x", {"adapter.method": method})
    assert config.method == METHODS[method]
    has = config.method.settings
    assert config.lora.rank == (8 if "lora.rank" in has else 16)
    assert config.lora.dropout == (0.1 if "lora.dropout" in has else 0.0)
    # A stored run is read back equal.
    assert configure(config.model_dump(mode="json"), "x") == config


GIVEN = {
    "lora.rank": 4,
    "lora.alpha": 3,
    "lora.dropout": 0.2,
    "lora.rslora": True,
    "lora.targets": "q_proj",
    "adapter.factor": 4,
    "adapter.tokens": 8,
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("method", METHODS)
def test_a_setting_that_a_method_lacks_is_refused(method: str, name: str) -> None:
    plain = {k: v for k, v in RECIPE.items() if k != "lora"}
    asked = {"adapter.method": method, name: GIVEN[name]}
    if name in METHODS[method].settings:
        configure(plain, "x", asked)
        return
    for values, over in ((plain, asked), (plain | {"adapter": {"method": method}}, asked)):
        with pytest.raises(ConfigError, match=f"has no effect with adapter.method {method}") as e:
            configure(values, "x", over)
        assert e.value.cure.startswith("leave it out: of these settings")


def test_every_setting_that_depends_on_the_method_is_tried() -> None:
    assert {*GIVEN, "lora.dora"} == SETTINGS


def test_dora_has_two_spellings_and_no_strength() -> None:
    for over in ({"adapter.method": "dora"}, {"lora.dora": True}):
        config = configure(RECIPE, "x", over)
        assert config.method.name == "dora"
        assert config.lora.dora  # which code reads that knows no other method
        with pytest.raises(ConfigError, match=r"train\.scales is 0\.5, but DoRA has no strength"):
            configure(RECIPE, "x", {**over, "train.scales": [0.5]})
    with pytest.raises(ConfigError, match="these are two methods"):
        configure(RECIPE, "x", {"lora.dora": True, "adapter.method": "ia3"})


@pytest.mark.parametrize(
    ("over", "found", "cure"),
    [
        ({"adapter.method": "lohar"}, "lohar", "did you mean loha"),
        ({"adapter.metod": "loha"}, "metod", "did you mean adapter.method"),
        ({"adapter.factor": 1}, "factor", "correct this value"),
        ({"adapter.method": "lokr", "adapter.factor": 1}, "factor", "correct this value"),
        (
            {"adapter.method": "prefix", "train.gradient_checkpointing": True},
            "gradient_checkpointing doesn't work with prefix tuning",
            "leave gradient_checkpointing out",
        ),
    ],
)
def test_faults_name_the_setting_and_the_cure(over: dict[str, Any], found: str, cure: str) -> None:
    with pytest.raises(ConfigError, match=found) as caught:
        configure(RECIPE, "x", over)
    assert cure in caught.value.cure


def test_a_modality_trains_the_methods_that_it_has() -> None:
    with pytest.raises(ConfigError, match="prefix tuning isn't trained for image") as caught:
        load_recipe("brand_style", {"adapter.method": "prefix", "name": "x"})
    assert caught.value.cure == "choose one of lora, dora, loha, lokr, ia3"
    assert load_recipe("brand_style", {"method": "lokr"}).method.name == "lokr"
    assert load_recipe("dialect", {"method": "prefix", "tokens": 4}).adapter.tokens == 4


def test_init_is_for_lora() -> None:
    with pytest.raises(ConfigError, match="works with LoRA and DoRA, not with LoKr"):
        configure(RECIPE, "x", {"init": "runs/old", "adapter.method": "lokr"})


def test_methods_are_found_by_the_names_of_peft() -> None:
    assert method_of_peft("LORA") == METHODS["lora"]
    assert method_of_peft("LORA", dora=True) == METHODS["dora"]
    assert method_of_peft("VERA") is None
