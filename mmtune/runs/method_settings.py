"""Which settings a method of training has: a recipe's others are dropped, a user's are refused."""

from __future__ import annotations

from collections.abc import Mapping

from mmtune.config import RunConfig
from mmtune.errors import ConfigError
from mmtune.methods import METHODS, SETTINGS, Method, MethodNames
from mmtune.settings.reading import Given


def fitting(recipe: Mapping[str, Given], own: Mapping[str, Given]) -> dict[str, Given]:
    """Leave out a recipe's settings that the method which the user chose doesn't have.

    A recipe's `lora.rank` is meant for the recipe's method, not for the user's.

    Args:
        recipe: settings of the recipe, by full name.
        own: the user's settings on top.
    """
    chosen = own.get("adapter.method")
    method = METHODS.get(str(chosen.value)) if chosen is not None else None
    if method is None:  # none is chosen, or it is an unknown name, which is an error later
        return dict(recipe)
    return {k: v for k, v in recipe.items() if k not in SETTINGS - method.settings}


def require_settings(config: RunConfig, given: Mapping[str, Given], source: str) -> None:
    """Refuse settings that the run's method doesn't have, or can't be used with.

    Args:
        config: the validated settings.
        given: what was given, by full name.
        source: the file that an error names if the setting isn't the user's own.

    Raises:
        ConfigError: a setting that the method doesn't have differs from its default, or the method
            has no strength between off and on and one is asked for.
    """
    method, named = config.method, "adapter.method" in given
    if config.lora.dora and named and config.adapter.method not in ("lora", "dora"):
        raise ConfigError(
            f"lora.dora is true, but adapter.method is {config.adapter.method}: these are two "
            "methods",
            "give one of the two",
        )
    for name in sorted(SETTINGS - method.settings):
        section, _, key = name.partition(".")
        usual = getattr(RunConfig.model_fields[section].default, key)
        if getattr(getattr(config, section), key) == usual:
            continue
        key = given[name].key if name in given else name
        raise ConfigError(
            f"{key} has no effect with adapter.method {method.name} ({source})",
            f"leave it out: of these settings, {method.name} has "
            + (", ".join(sorted(method.settings)) or "none"),
        )
    train = config.train
    if not method.has_strength and len(train.scales) == 1 and train.scales != (1.0,):
        raise ConfigError(
            f"train.scales is {train.scales[0]:g}, but {method.title} has no strength between off "
            "and on",
            "leave train.scales out, or choose another adapter.method",
        )
    if not method.by_layer and train.gradient_checkpointing:
        raise ConfigError(
            f"train.gradient_checkpointing doesn't work with {method.title}: its keys and values "
            "are in a cache, which is not computed again",
            "leave gradient_checkpointing out; --micro_batch also lowers the memory",
        )


def spelled_out(config: RunConfig) -> RunConfig:
    """Set `lora.dora` where `adapter.method` is dora: a modality's code may read only that."""
    if config.method.name != "dora":
        return config
    return config.model_copy(update={"lora": config.lora.model_copy(update={"dora": True})})


def require_lora(config: RunConfig) -> None:
    """Refuse to start another method than LoRA or DoRA from an adapter.

    Raises:
        ConfigError: the run has `init` and such a method.
    """
    if config.method.peft_type != "LORA":
        raise ConfigError(
            f"--init {config.init} starts from an adapter, which works with LoRA and DoRA, not "
            f"with {config.method.title}",
            "leave --init out, or use adapter.method lora",
        )


def require_known(method: Method, known: MethodNames, modality: str) -> None:
    """Refuse a method that the run's modality can't train.

    Raises:
        ConfigError: it isn't one of `known`.
    """
    if method.name not in known:
        raise ConfigError(
            f"adapter.method is {method.name}, but {method.title} isn't trained for {modality}",
            f"choose one of {', '.join(known)}",
        )
