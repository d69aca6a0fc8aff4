"""Read the data that a run was trained on, and data that the user names to measure on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmtune.config import DataOptions, RunConfig
from mmtune.data.check import check, inspect_source
from mmtune.data.dataset import Dataset
from mmtune.data.policy import find_policy, policy_beside
from mmtune.data.rows import Row
from mmtune.runs.import_hint import importable
from mmtune.runs.modalities import find_modality
from mmtune.runs.run_policy import kept_policy


def own_dataset(
    config: RunConfig, source: Path, earlier: str = "", *, record: bool = False
) -> Dataset:
    """Read the data of a run as its training reads it.

    Args:
        config: the run's settings.
        source: the manifest or folder that the modality prepared.
        earlier: the fingerprint of the data that the run was trained on; "" if nobody knows it.
        record: keep the splits of new rows beside the data.

    Raises:
        DataError: the data can't be used.
    """
    modality = find_modality(config.modality)
    options = config.data.model_copy(update={"policy": kept_policy(config, source)})
    with importable(source, modality):
        return check(
            source,
            modality,
            options,
            base=config.base,
            settings=config.task,
            record=record,
            earlier=[earlier] if earlier else (),
        )


@dataclass(frozen=True)
class NamedData:
    """Data that the user names to measure on.

    Attributes:
        dataset: all of its usable rows.
        test: the rows to measure on, if they are a part of it; empty: all rows.
        trained: the adapter that was trained on this data; "" if none was.
    """

    dataset: Dataset
    test: tuple[Row, ...]
    trained: str = ""


def named_data(
    data: Path,
    config: RunConfig,
    trained: Mapping[str, str],
    options: Iterable[DataOptions],
    divide: DataOptions | None,
) -> NamedData:
    """Read a manifest or folder that the user names.

    Its test rows are measured if an adapter was trained on the others, or if it names them itself.

    Args:
        data: the manifest or folder.
        config: the settings to measure with.
        trained: fingerprints of data, each with the name of an adapter that was trained on it.
        options: how the data of these adapters was divided.
        divide: how to divide other data, if not all of it is to be measured; None: as it says.

    Raises:
        DataError: the data can't be used.
    """

    modality = find_modality(config.modality)
    named = policy_beside(data) or kept_policy(config, config.data.path or data)
    with importable(data, modality):
        inspected = inspect_source(
            data,
            modality,
            base=config.base,
            settings=config.task,
            policy=find_policy(named, data),
            use="evaluate",
        )
        known = {fingerprint: name for fingerprint, name in trained.items() if fingerprint}
        for each in options if known else ():
            found = inspected.divided(each, strict=False, earlier=known)
            if found.fingerprint in known:
                return NamedData(found, found.split("test"), known[found.fingerprint])
        found = inspected.divided(divide or config.data, divide=divide is not None)
    return NamedData(found, found.split("test"))
