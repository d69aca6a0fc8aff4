"""Compare a merged adapter or a route with its parts, alone and together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmtune.adapters.card import read_card
from mmtune.adapters.combinations import TestSet, Ways, constant
from mmtune.adapters.consent import base_of
from mmtune.adapters.members import Member, Mixing, read_members
from mmtune.adapters.routing import Router, is_route, read_route
from mmtune.config import RunConfig
from mmtune.errors import AdapterError, ConfigError
from mmtune.runs.adapters import compose
from mmtune.runs.modalities import find_modality
from mmtune.runs.recipes import configure

OTHER_METHODS = ("linear", "ties", "dare_linear")  # methods that a merged adapter is compared with


def ways_of(composed: Path, given: Mapping[Path, float], mixing: Mixing, scratch: Path) -> Ways:
    """List the ways to compare: the base, each part alone at weight 1, and their combinations.

    Args:
        composed: the folder of a merged adapter or of a route.
        given: the parts of a merged adapter with their weights; a route names its own parts.
        mixing: how the parts were merged.
        scratch: an existing folder for the same parts merged by `OTHER_METHODS`.
    """
    settings: dict[str, Router] = {"base": constant({})}
    if is_route(composed):
        route, adapters = read_route(composed)
        settings |= {name: constant({name: 1.0}) for name in adapters}
        settings["routed"] = route.choose
        parts = read_members(dict.fromkeys(adapters.values(), 1.0))
        base = base_of(route.base, composed, option=False)
        return Ways(route.modality, base, adapters, settings, parts)
    parts, card = read_members(given), read_card(composed)
    names = [f"{place + 1} {part.card.name}" for place, part in enumerate(parts)]
    folders = {name: part.folder for name, part in zip(names, parts, strict=True)}
    together = {name: part.weight for name, part in zip(names, parts, strict=True)}
    settings |= {name: constant({name: 1.0}) for name in names}
    settings["together"] = constant(together)
    merged, notes = {f"merged, {mixing.method}": composed}, []
    for method in OTHER_METHODS:
        if method == mixing.method:
            continue
        other = replace(mixing, method=method, rank=None)
        try:
            done = compose(given, other, scratch / method, base=card.base)
        except AdapterError as error:
            notes.append(f"{method} is not compared: {error.found}")
        else:
            merged[f"merged, {method}"] = done.path
    settings |= {name: constant({name: 1.0}) for name in merged}
    return Ways(card.modality, card.base, folders | merged, settings, parts, tuple(notes))


def test_sets_of(asked: Ways, data: Path | None) -> list[TestSet]:
    """Read the test sets on which the ways are compared.

    Args:
        asked: the ways.
        data: a manifest or folder; None: each part's own test items.

    Raises:
        ConfigError: a part's card doesn't name its training data, or the data has changed since.
        DataError: the data can't be used.
    """
    from mmtune.data.check import check

    modality = find_modality(asked.modality)
    if data is not None:
        return [_test_set_of(asked, data)]
    found: dict[str, TestSet] = {}
    for part in asked.parts:
        # A card holds no absolute path, so it may name data that isn't found from here.
        known = (part.card.settings.get("data") or {}).get("path")
        if _run_of(part) is None and (not known or not Path(str(known)).exists()):
            raise ConfigError(
                f"the card in {part.folder} doesn't say where its training data is",
                "give data to compare on: --compare MANIFEST",
            )
        config = _config_of(part)
        source = modality.prepare(config)
        dataset = check(
            source,
            modality,
            config.data,
            base=config.base,
            settings=config.task,
            earlier=part.card.dataset,
        )
        if dataset.fingerprint != part.card.dataset:
            raise ConfigError(
                f"{source} has changed since {part.folder} was trained: its test items may be "
                "training items of the adapter",
                "restore the data, or give other data: --compare MANIFEST",
            )
        name = config.name if config.name not in found else f"{config.name}-{len(found) + 1}"
        found[name] = TestSet(name, config, dataset)
    return list(found.values())


def _test_set_of(asked: Ways, data: Path) -> TestSet:
    """Read a manifest or folder that the user names: all its rows are scored.

    Its test rows alone are scored where it says itself which rows they are, or where a part was
    trained on the others.
    """
    from mmtune.data.check import check

    modality, config = find_modality(asked.modality), _config_of(asked.parts[0])
    trained = {part.card.dataset: part.card.name for part in asked.parts}
    shares = {_config_of(part).data.model_copy(update={"path": None}) for part in asked.parts}
    for own, earlier in itertools.product(shares, trained):
        dataset = check(data, modality, own, base=asked.base, settings=config.task, earlier=earlier)
        if dataset.fingerprint in trained:
            scored, total = len(dataset.split("test")), len(dataset.rows)
            why = f"{trained[dataset.fingerprint]} was trained on this data"
            note = f"{scored} of {total} rows of {data} are compared, the test rows: {why}"
            return TestSet(data.stem, config, dataset, note=note)
    if modality.compares_with_training:
        dataset = check(data, modality, config.data, base=asked.base, settings=config.task)
        note = (
            f"of the {len(dataset.rows)} rows of {data} those are compared that are held out "
            f"(data.test = {config.data.test:g}, as in {config.name}); the others show the look"
        )
        return TestSet(data.stem, config, dataset, note=note)
    dataset = check(
        data, modality, config.data, base=asked.base, settings=config.task, divide=False
    )
    if not (scored := len(dataset.split("test"))):
        return TestSet(data.stem, config, dataset, whole=True)
    note = (
        f"{scored} of {len(dataset.rows)} rows of {data} are compared: those whose 'split' is "
        "'test'; remove 'split' from its rows to compare on all of them"
    )
    return TestSet(data.stem, config, dataset, note=note)


def _run_of(part: Member) -> Path | None:
    run = part.folder.parent
    return run if part.folder.name == "adapter" and (run / "config.yaml").is_file() else None


def _config_of(part: Member) -> RunConfig:
    """Read the settings of a part's run, from the run folder or else from the card."""
    from mmtune.runs.recipes import load_run

    run, card = _run_of(part), part.card
    if run is not None:
        return load_run(run)
    values = {"recipe": card.recipe, "modality": card.modality, "name": card.name}
    # A merged adapter has no run.
    known = card.settings if "data" in card.settings else {"task": card.settings.get("task") or {}}
    return configure(values | known | {"base": card.base}, str(part.folder), {})


def try_out(asked: Ways, test_sets: Sequence[TestSet]) -> tuple[tuple[str, ...], ...]:
    """Measure each way on each test set.

    Returns:
        A table of the modality's metrics; its first row is the header.

    Raises:
        DataError: the data can't be used.
    """
    modality = find_modality(asked.modality)
    columns = modality.try_out(asked.base, asked.adapters, asked.choices, test_sets)
    head = ("adapters", *columns)
    return (head, *zip(asked.choices, *columns.values(), strict=True))
