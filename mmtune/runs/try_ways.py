"""Compare a merged adapter or a route with its parts, alone and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmtune.adapters.card import read_card
from mmtune.adapters.combinations import TestSet, Ways, constant
from mmtune.adapters.members import Mixing, read_members
from mmtune.adapters.named_base import base_of
from mmtune.adapters.routing import Router, is_route, read_route
from mmtune.errors import AdapterError, ConfigError
from mmtune.runs.adapters import compose
from mmtune.runs.measured_adapter import config_of, run_of
from mmtune.runs.modalities import find_modality
from mmtune.runs.run_data import named_data, own_dataset
from mmtune.system.files import unique_name

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
    modality = find_modality(asked.modality)
    if data is not None:
        return [_test_set_of(asked, data)]
    found: dict[str, TestSet] = {}
    for part in asked.parts:
        # A card holds no absolute path, so it may name data that isn't found from here.
        known = (part.card.settings.get("data") or {}).get("path")
        if run_of(part.folder) is None and (not known or not Path(str(known)).exists()):
            raise ConfigError(
                f"the card in {part.folder} doesn't say where its training data is",
                "give data to compare on: --compare MANIFEST",
            )
        config = config_of(part.folder, part.card)
        source = modality.prepare(config)
        dataset = own_dataset(config, source, part.card.dataset)
        if dataset.fingerprint != part.card.dataset:
            raise ConfigError(
                f"{source} has changed since {part.folder} was trained: its test items may be "
                "training items of the adapter",
                "restore the data, or give other data: --compare MANIFEST",
            )
        name = unique_name(config.name, found)
        found[name] = TestSet(name, config, dataset)
    return list(found.values())


def _test_set_of(asked: Ways, data: Path) -> TestSet:
    """Read a manifest or folder that the user names: all its rows are scored.

    Its test rows alone are scored where it says itself which rows they are, or where a part was
    trained on the others.
    """
    parts = [config_of(part.folder, part.card) for part in asked.parts]
    config, modality = parts[0], find_modality(asked.modality)
    trained = {part.card.dataset: part.card.name for part in asked.parts}
    options = {each.data.model_copy(update={"path": None}) for each in parts}
    held = config.data if modality.compares_with_training else None
    on_base = config.model_copy(update={"base": asked.base})
    found = named_data(data, on_base, trained, options, held)
    scored, total = len(found.test), len(found.dataset.rows)
    note = f"{scored} of {total} rows of {data} are compared"
    if found.trained:
        note += f", the test rows: {found.trained} was trained on this data"
    elif held is not None:
        note = (
            f"of the {total} rows of {data} those are compared that are held out "
            f"(data.test = {held.test:g}, as in {config.name}); the others show the look"
        )
    elif scored:
        note += (
            ": those whose 'split' is 'test'; remove 'split' from its rows to compare on all of "
            "them"
        )
    else:
        return TestSet(data.stem, config, found.dataset, whole=True)
    return TestSet(data.stem, config, found.dataset, note=note)


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
