"""The request for an export, and its result."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.adapters.card import Card
from mmtune.adapters.licence import Licence
from mmtune.errors import ConfigError, MissingExtra
from mmtune.system.display import Displayed, Rows
from mmtune.system.hashing import hash_file
from mmtune.system.tensors import tensors_hash

FILE_SUFFIXES = {".bin", ".safetensors", ".gguf", ".ggml", ".pt"}  # no folder is called so
EXTRA = "export"  # the extra that installs what formats need


@dataclass(frozen=True)
class Export:
    """A request to a modality to export an adapter.

    Attributes:
        adapter: the adapter folder.
        card: the adapter's card.
        base: the base model.
        format: one of the modality's `formats`.
        to: the file or folder to write; it doesn't exist, its parent does.
        scale: factor on the adapter's strength.
        precision: fp32, bf16, fp16 or int8; empty: the format's default. It applies to the written
            weights, and to the base while an image adapter is compared.
        check: data to compare the export on; None: the modality's own choice.
        licence: the base's licence; None if it isn't known.
        accepted: the name of the licence that the user accepted, if it is restrictive.
    """

    adapter: Path
    card: Card
    base: str
    format: str
    to: Path
    scale: float = 1.0
    precision: str = ""
    check: Path | None = None
    licence: Licence | None = None
    accepted: str = ""

    @property
    def of_trained(self) -> float:
        """The exported strength, as a share of the trained one.

        The weights of the adapter may have been saved at a part of it already.
        """
        return self.scale * self.card.scale


@dataclass(frozen=True)
class Exported(Displayed):
    """The result of an export.

    Attributes:
        path: the file or folder that was written.
        format: the export format.
        proof: figures of the comparison with the adapter, by name.
        notes: messages for the user.
        failed: why the export differs from the adapter that was measured; empty if it doesn't.
        table: header and rows of the comparison, if there is more to show than `proof`.
    """

    path: Path
    format: str
    proof: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: str = ""
    table: tuple[tuple[str, ...], ...] = ()

    def shown(self) -> Iterable[str | Rows]:
        """Show the path, the comparison with the adapter, and the notes; a failure comes last."""
        proof = ", ".join(f"{name} {value}" for name, value in self.proof.items())
        return [
            str(self.path),
            *([self.table] if self.table else []),
            *([f"checked: {proof}"] if proof and not self.failed else []),
            *(f"note: {note}" for note in self.notes),
            *([f"failed: {self.failed}"] if self.failed else []),
        ]


@dataclass(frozen=True)
class ExportFormat(ABC):
    """A format that adapters can be exported in: one record, in a file of its own.

    Attributes:
        name: what `--format` takes.
        summary: what it is and for which programs, in a few words.
        precisions: of the weights that it is written in; the first is written unless told.
        packages: modules that writing it needs.
        suffix: of the file that it is; empty for a folder.
        precision_note: why it has no other precisions; empty where that is plain.
    """

    name: str
    summary: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...] = ()
    suffix: str = ""
    precision_note: str = ""

    @abstractmethod
    def export(self, request: Export) -> Exported:
        """Write `request.to`, and prove that it is the adapter.

        Raises:
            AdapterError: the format can't hold the adapter, or it isn't the same when read back.
        """

    def finish(self, request: Export, place: Path) -> tuple[str, ...]:
        """Write what belongs beside an export that is in its place, and say what to do with it.

        Returns:
            Notes for the user. Default: none.
        """
        return ()

    def precision_of(self, request: Export) -> str:
        """The precision to write, after what can be refused before any work.

        Raises:
            ConfigError: a precision that the format hasn't got, or a name that doesn't fit it.
        """
        if request.precision and request.precision not in self.precisions:
            why = f"; {self.precision_note}" if self.precision_note else ""
            raise ConfigError(
                f"--precision {request.precision}: format {self.name} has "
                f"{', '.join(self.precisions)}{why}",
                f"--precision {self.precisions[0]}",
            )
        suffix = request.to.suffix
        if self.suffix and suffix != self.suffix:
            raise ConfigError(
                f"{request.to.name}: format {self.name} is a file", f"name a {self.suffix} file"
            )
        if not self.suffix and suffix in FILE_SUFFIXES:
            raise ConfigError(
                f"{request.to.name}: format {self.name} is a folder", f"--out {request.to.stem}"
            )
        return request.precision or self.precisions[0]


def hashed_weights(folder: Path) -> dict[str, str]:
    """Hash the weights in an exported folder, by the file's path in it, for the export's record.

    Of a safetensors file the tensors are hashed, of another file the bytes.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in FILE_SUFFIXES)
    return {
        path.relative_to(folder).as_posix(): tensors_hash(path)
        if path.suffix == ".safetensors"
        else hash_file(path)
        for path in files
    }


def require_packages(purpose: str, *modules: str) -> None:
    """Stop before hours are spent on what can't be written or checked here.

    Raises:
        MissingExtra: one is not installed.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module.replace("_", "-"), EXTRA, purpose)
