"""The card of an adapter: its base, its training data and its measured results."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import (
    Any,
    Required,  # pydantic can't read typing's before 3.12
)

from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import TypedDict

from mmtune.adapters.model_card import Usage, header, how_to_load
from mmtune.data.rights import Rights
from mmtune.errors import AdapterError
from mmtune.methods import METHODS, Method
from mmtune.system.files import finished_files, write_text
from mmtune.system.formats import with_format, without_format
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.run_folder import is_run
from mmtune.system.stored import damaged, read_json_object
from mmtune.system.tensors import tensors_hash
from mmtune.system.version import VERSION

CARD_FILE = "card.json"
README = "README.md"  # a model card of the hub
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


def versions() -> dict[str, str]:
    """Installed versions of mmtune and of the libraries that a result depends on."""
    names = ("torch", "transformers", "diffusers", "peft", "accelerate")
    return {"mmtune": VERSION} | {n: importlib.metadata.version(n) for n in names}


class TriedPoint(TypedDict, total=False):
    """What a step or a strength of the adapter reached; an undefined figure is null.

    `mmtune.training.selection.Point` explains the figures.
    """

    scale: Required[float]
    value: Required[float | None]
    retained: Required[float | None]
    low: float | None
    high: float | None
    figures: Required[dict[str, float | None]]
    step: int | None


class Card(BaseModel):
    """The contents of `card.json`, the file beside an adapter's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: str
    modality: str
    base: str
    base_hash: str  # of the base's weights
    # Hash of the content of each file beside the card (adapters/integrity.py); empty in a card of
    # an earlier version.
    files: dict[str, str] = Field(default_factory=dict)
    base_licence: str = ""  # as the base's model card names it
    dataset: str  # fingerprint
    dataset_version: str = ""  # fingerprint of the version in the data's log; empty: unknown
    rows: dict[str, int]  # by split
    # What the rows behind it allow, as counts; None: they stated nothing, and there was no policy.
    rights: Rights | None = None
    settings: dict[str, Any]
    validation: dict[str, float] = Field(default_factory=dict)  # of the kept checkpoint
    best_step: int = 0
    steps: int = 0
    scale: float = 1.0  # strength of the saved adapter; the weights are already scaled by it
    checkpoints: list[TriedPoint] = Field(default_factory=list)  # results of each step
    checkpoint: str = ""  # why `best_step` was chosen
    sweep: list[TriedPoint] = Field(default_factory=list)  # results of each scale
    advised: float | None = None  # recommended strength; the weights are not scaled by it
    advice: str = ""  # why this strength is recommended
    judged: float | None = None  # strength at which `measures` were taken; None: at full strength
    measures: list[dict[str, Any]] = Field(default_factory=list)  # filled by the evaluation
    # For a merged adapter, one entry for each part: name, recipe, hash, weight and dataset.
    parents: list[dict[str, Any]] = Field(default_factory=list)
    # Of an adapter that training started from another one: that one, then what it started from
    # itself. Each entry has name, recipe, hash, base and dataset; of another program also file.
    lineage: list[dict[str, str]] = Field(default_factory=list)
    # For an adapter of another program: name and hash of its file, and the kinds of its layers.
    origin: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=versions)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @field_validator("validation", mode="before")
    @classmethod
    def _undefined(cls, values: Any) -> Any:
        # JSON has no NaN, so an undefined figure is stored as null.
        if not isinstance(values, dict):
            return values
        return {name: math.nan if value is None else value for name, value in values.items()}

    @property
    def trigger(self) -> str:
        """The phrase that training put before every caption; empty if there is none."""
        task = self.settings.get("task")
        return str(task.get("trigger") or "") if isinstance(task, dict) else ""

    @property
    def method(self) -> Method:
        """The method that it was trained by."""
        adapter, lora = (self.settings.get(name) for name in ("adapter", "lora"))
        if isinstance(lora, dict) and lora.get("dora"):
            return METHODS["dora"]
        named = str(adapter.get("method")) if isinstance(adapter, dict) else ""
        return METHODS[named if named in METHODS else "lora"]

    @property
    def judged_scale(self) -> float:
        """The strength at which the adapter is judged: the recommended one, else as it is saved.

        Where the base is recommended (0), the adapter is judged as it is saved.
        """
        return self.advised or 1.0

    @property
    def default_scale(self) -> float:
        """The strength at which the adapter is used unless another is asked for: the judged one.

        Figures of an earlier version were taken at full strength.
        """
        if self.judged is None and self.measures:
            return 1.0
        return self.judged_scale if self.judged is None else self.judged

    @property
    def parent(self) -> str:
        """The adapter that training started from, for people; empty: it started from the base."""
        if not self.lineage:
            return ""
        first = self.lineage[0]
        file = f", converted from {first['file']}" if first.get("file") else ""
        return f"{first['name']} ({first['hash'][:16]}{file})"

    def facts(self) -> list[tuple[str, str]]:
        """Named facts for the report: method, parent, trigger, compared steps and strengths."""
        facts = [] if self.method.name == "lora" else [("method", self.method.title)]
        facts += [("started from", self.parent)] if self.parent else []
        facts += [("trigger", self.trigger)] if self.trigger else []
        if self.rights is not None and (lines := self.rights.lines()):
            facts.append(("consent and licence", "; ".join(lines)))
        if self.checkpoint:
            facts += tried(self.checkpoints)
            facts.append(("kept checkpoint", f"step {self.best_step}: {self.checkpoint}"))
        if self.advised is not None:
            facts += tried(self.sweep)
            facts.append(("recommended scale", f"{self.advised:g}: {self.advice}"))
        if self.judged is not None and self.judged != 1:
            facts.append(("judged at scale", f"{self.judged:g}"))
        return facts

    def write(self, folder: Path, usage: Usage | None = None) -> None:
        """Write `card.json` and a README.md for people into `folder`, atomically.

        An absolute path in them would tell others of this machine, so its name alone is written.
        The base's path stays whole, and is absolute in the README.md's code, because the adapter
        can't be loaded without it.

        Args:
            usage: how other programs load it (`Modality.usage`).
        """
        shared = self.without_paths()
        write_text(folder / CARD_FILE, with_format(shared.model_dump_json(indent=2)) + "\n")
        write_text(folder / README, shared._page(usage))

    def without_paths(self) -> Card:
        """Copy the card with the last part of each absolute path in its settings and notes."""
        texts = {name: getattr(self, name) for name in ("advice", "checkpoint")}
        values = {"settings": self.settings, "measures": self.measures, **texts}
        return self.model_copy(update={name: _named_only(value) for name, value in values.items()})

    def _page(self, usage: Usage | None) -> str:
        how = f"trained with mmtune's recipe `{self.recipe}`"
        if self.parents:
            how = "merged by mmtune from the adapters below"
        elif self.origin:
            how = f"converted by mmtune from `{self.origin['file']}` of another program"
        elif self.parent:
            how += ", starting from another adapter"
        elif not self.dataset:
            how = "measured by mmtune, and trained with another program"
        article = "An" if self.method.name == "ia3" else "A"
        head = header(
            *(self.name, self.base, self.base_licence, usage, self.measures),
            method=self.method.name,
        )
        lines = [head, f"# {self.name}", ""]
        lines += [f"{article} {self.method.title} adapter for `{self.base}`, {how}.", ""]
        if self.dataset:
            rows = self.rows.get("train", 0)
            lines.append(f"- trained on {rows} rows, dataset `{self.dataset[:16]}`")
        if self.parent:
            lines.append(f"- training started from: {self.parent}")
        if self.parents:
            lines += [
                f"- part: `{parent['name']}` ({parent['hash'][:16]}), weight {parent['weight']:g}"
                for parent in self.parents
            ]
        elif self.dataset:
            why = f": {self.checkpoint}" if self.checkpoint else ""
            lines.append(f"- saved checkpoint: step {self.best_step} of {self.steps}{why}")
        if self.base_licence:
            lines.append(f"- licence of the base: {self.base_licence}")
        if self.rights is not None:
            lines += [f"- {line}" for line in self.rights.lines()]
            lines += [
                f"- source to be named: {each.source} ({each.licence})"
                for each in self.rights.credits
            ]
        if self.trigger:
            lines.append(f"- trigger phrase, put before every prompt: `{self.trigger}`")
        if self.advised is not None:
            lines.append(f"- recommended strength {self.advised:g}: {self.advice}")
            if self.measures:
                lines.append(f"- strength of the figures below: {self.judged or 1:g}")
        elif self.sweep:
            lines.append(
                f"- saved at {self.scale:g} of its trained strength: see `sweep` in {CARD_FILE}"
            )
        lines += [f"- validation {name}: {value:.4f}" for name, value in self.validation.items()]
        if self.checkpoint:
            lines += _table("checkpoint", self.checkpoints)
        if self.advised is not None:
            lines += _table("strength", self.sweep)
        if self.measures:
            lines += [
                "",
                "| metric | on | items | base | adapter | difference |",
                "|---|---|---|---|---|---|",
            ]
            for m in self.measures:
                cells = " | ".join(_cell(m[k]) for k in ("base", "adapter", "difference"))
                lines.append(f"| {m['metric']} | {m['slice']} | {m['items']} | {cells} |")
        lines += how_to_load(usage) if usage is not None else []
        return "\n".join(lines) + "\n"


def _table(kind: str, points: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [f"| {name} | {figures} |" for name, figures in tried(points)]
    return ["", f"| {kind} | on held-out rows |", "|---|---|", *rows]


def tried(sweep: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name each compared strength or step, and format its figures as text."""
    shown = []
    for point in sweep:
        # An undefined figure is null in the card.
        known = {name: value for name, value in point["figures"].items() if value is not None}
        parts = [f"{name} {value:.2f}" for name, value in known.items()]
        if not known:  # the task reports one figure, and one for rows that must not get worse
            value = point["value"]
            parts = ["validation not defined" if value is None else f"validation {value:.4f}"]
            if point["retained"] is not None:
                parts.append(f"retention {point['retained']:.4f}")
        elif point["retained"] is not None:
            parts.append(f"kept content {point['retained']:.2f}")
        step = point.get("step")
        name = f"scale {point['scale']:g}" if step is None else f"step {step}"
        shown.append(("base" if point["scale"] == 0 else name, ", ".join(parts)))
    return shown


def _cell(interval: dict[str, float | None]) -> str:
    if interval["value"] is None:  # undefined, in a card that was read back
        return "nan"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _named_only(value: Any) -> Any:
    """Replace each absolute path in JSON values by its last part."""
    if isinstance(value, Mapping):
        return {key: _named_only(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_named_only(each) for each in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
        return PurePath(value).name
    return value


def adapter_folder(path: Path, marker: str = CARD_FILE) -> Path:
    """Find the adapter folder: `path` itself, or `adapter/` in a run folder.

    Args:
        marker: the file that identifies an adapter folder.

    Raises:
        AdapterError: neither folder holds an adapter, or the run isn't finished.
    """
    for folder in (path, path / "adapter"):
        if (folder / marker).is_file():
            return folder
    unfinished = is_run(path) and not (path / "adapter").is_dir()
    if unfinished or (path / "checkpoints").is_dir():
        raise AdapterError(
            f"the run {path} isn't finished",
            "repeat the run's `mmtune train` command to finish it",
        )
    config, weights = PEFT_FILES
    if (path / config).is_file() and not (path / weights).is_file():
        raise AdapterError(
            f"{path} holds no adapter: {config} is there, but its weights, {weights}, are missing",
            "copy the whole folder that PEFT wrote",
        )
    if marker != CARD_FILE:
        raise AdapterError(
            f"{path} holds no adapter: {marker} is missing",
            "give a run folder (runs/NAME) or its adapter/ folder",
        )
    raise AdapterError(
        f"{path} holds no adapter: neither mmtune's {CARD_FILE} nor PEFT's {config} with {weights} "
        "is there",
        "give a run folder (runs/NAME), its adapter/ folder, or an adapter of another program",
    )


def weights_hash(folder: Path) -> str:
    """Hash an adapter's weights: all safetensors files in its folder, by name.

    Raises:
        AdapterError: the folder holds no weights, or a file or the card can't be read.
    """
    return hash_json(file_hashes(folder))


def file_hashes(folder: Path) -> dict[str, str]:
    """Hash each safetensors file in an adapter folder, by name: its tensors, not its bytes.

    An adapter whose card names no hashes (of an earlier version, or of another program) is hashed
    by the bytes of its files, as before, so that answers that were stored for it are still found.

    Raises:
        AdapterError: the folder holds no weights, or a file or the card can't be read.
    """
    files = finished_files(folder.glob("*.safetensors"))
    if not files:
        raise AdapterError(
            f"{folder} holds no .safetensors file", "restore the folder, or train the adapter again"
        )
    sealed = (folder / CARD_FILE).exists() and bool(read_card(folder).files)
    return {p.name: tensors_hash(p, AdapterError) if sealed else hash_file(p) for p in files}


def read_card(folder: Path) -> Card:
    """Read the card in an adapter folder.

    Raises:
        AdapterError: the card is missing or can't be read.
        ConfigError: a newer mmtune wrote it.
    """
    path, cure = folder / CARD_FILE, "restore the file, or train the adapter again"
    try:
        values = without_format(read_json_object(path, cure, AdapterError), path)
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} holds no {CARD_FILE}", "give a run folder or its adapter/ folder"
        ) from None
    with damaged(path, cure, AdapterError):
        return Card.model_validate(values)
