"""The card of an adapter: what it is, what it was trained on and what was measured."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mmtune.errors import AdapterError
from mmtune.system.files import write_text
from mmtune.system.formats import with_format, without_format
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.version import VERSION

CARD_FILE = "card.json"


def versions() -> dict[str, str]:
    """Versions of mmtune and of the libraries that a result depends on."""
    names = ("torch", "transformers", "diffusers", "peft", "accelerate")
    return {"mmtune": VERSION} | {n: importlib.metadata.version(n) for n in names}


class Card(BaseModel):
    """What `card.json` beside an adapter's weights holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: str
    modality: str
    base: str
    base_hash: str  # of the base's weights
    base_licence: str = ""  # as the base's model card names it
    dataset: str  # fingerprint
    rows: dict[str, int]  # by split
    settings: dict[str, Any]
    validation: dict[str, float] = Field(default_factory=dict)  # of the kept checkpoint
    best_step: int = 0
    steps: int = 0
    scale: float = 1.0  # of the trained adapter; it is in the weights already
    checkpoints: list[dict[str, Any]] = Field(default_factory=list)  # what each step reached
    checkpoint: str = ""  # why the best step was chosen of them
    sweep: list[dict[str, Any]] = Field(default_factory=list)  # what each scale reached
    advised: float | None = None  # scale to use it at; it is not in the weights
    advice: str = ""  # why
    measures: list[dict[str, Any]] = Field(default_factory=list)  # filled after evaluation
    # Of a composed adapter: name, recipe, hash of the weights, weight and dataset of each.
    parents: list[dict[str, Any]] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=versions)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def trigger(self) -> str:
        """The phrase that was put before the captions; empty for none."""
        return str((self.settings.get("task") or {}).get("trigger") or "")

    def facts(self) -> list[tuple[str, str]]:
        """What a report shows of the trigger, the checkpoints and the strengths, with names."""
        facts = [("trigger", self.trigger)] if self.trigger else []
        if self.checkpoint:
            facts += tried(self.checkpoints)
            facts.append(("kept checkpoint", f"step {self.best_step}: {self.checkpoint}"))
        if self.advised is not None:
            facts += tried(self.sweep)
            facts.append(("recommended scale", f"{self.advised:g}: {self.advice}"))
        return facts

    def write(self, folder: Path) -> None:
        """Write `card.json` and a README.md for people into `folder`, atomically."""
        write_text(folder / CARD_FILE, with_format(self.model_dump_json(indent=2)) + "\n")
        write_text(folder / "README.md", self._page())

    def _page(self) -> str:
        lines = [
            f"# {self.name}",
            "",
            f"A LoRA adapter for `{self.base}`, made by mmtune's recipe `{self.recipe}`.",
            "",
            f"- trained on {self.rows.get('train', 0)} rows, dataset `{self.dataset[:16]}`",
        ]
        if self.parents:
            lines += [
                f"- holds {parent['weight']:g} of `{parent['name']}` ({parent['hash'][:16]})"
                for parent in self.parents
            ]
        else:
            why = f": {self.checkpoint}" if self.checkpoint else ""
            lines.append(f"- best of {self.steps} steps: step {self.best_step}{why}")
        if self.base_licence:
            lines.append(f"- the base's licence: {self.base_licence}")
        if self.trigger:
            lines.append(f"- its trigger, in front of every prompt: `{self.trigger}`")
        if self.advised is not None:
            lines.append(f"- recommended strength {self.advised:g}: {self.advice}")
        elif self.sweep:
            lines.append(
                f"- its strength is {self.scale:g} of what was trained: see `sweep` in {CARD_FILE}"
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
        return "\n".join(lines) + "\n"


def _table(kind: str, points: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [f"| {name} | {figures} |" for name, figures in tried(points)]
    return ["", f"| {kind} | on held-out rows |", "|---|---|", *rows]


def tried(sweep: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The points of a comparison of strengths or steps by name, with their figures in words."""
    shown = []
    for point in sweep:
        # An undefined figure is null in the card.
        known = {name: value for name, value in point["figures"].items() if value is not None}
        parts = [f"{name} {value:.2f}" for name, value in known.items()]
        if not known:  # of a task that has one figure, and rows that must not get worse
            parts = [f"validation {point['value']:.4f}"]
            if point["retained"] is not None:
                parts.append(f"retention {point['retained']:.4f}")
        elif point["retained"] is not None:
            parts.append(f"kept content {point['retained']:.2f}")
        step = point.get("step")
        name = f"scale {point['scale']:g}" if step is None else f"step {step}"
        shown.append(("base" if point["scale"] == 0 else name, ", ".join(parts)))
    return shown


def _cell(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def adapter_folder(path: Path, marker: str = CARD_FILE) -> Path:
    """The adapter that `path` means: itself, or the `adapter/` of a run's folder.

    Args:
        marker: the file that tells an adapter's folder.

    Raises:
        AdapterError: neither holds one; says so where the run isn't finished.
    """
    for folder in (path, path / "adapter"):
        if (folder / marker).is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise AdapterError(f"the run {path} isn't finished", "repeat its command: it resumes")
    raise AdapterError(
        f"{path} holds no adapter ({marker})", "give a run's folder (runs/NAME) or its adapter/"
    )


def weights_hash(folder: Path) -> str:
    """Hash of the weights in an adapter's folder: its safetensors files by name.

    Raises:
        AdapterError: there is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise AdapterError(f"{folder} holds no .safetensors file", "restore it from the run")
    return hash_json({path.name: hash_file(path) for path in files})


def read_card(folder: Path) -> Card:
    """The card in an adapter's folder.

    Raises:
        AdapterError: there is none, or it can't be read.
        ConfigError: a newer mmtune wrote it.
    """
    path = folder / CARD_FILE
    try:
        values = without_format(json.loads(path.read_text(encoding="utf-8")), path)
        return Card.model_validate(values)
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} holds no {CARD_FILE}", "give a run's folder or its adapter/ folder"
        ) from None
    except (TypeError, ValueError) as error:
        raise AdapterError(f"{path} can't be read: {error}", "restore it from the run") from None
