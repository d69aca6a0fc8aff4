"""`SpeechFormat`: an export format that merges an adapter into its base, for another engine."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.exported import (
    Export,
    Exported,
    ExportFormat,
    hashed_weights,
    require_packages,
)
from mmtune.errors import MissingExtra

if TYPE_CHECKING:
    from mmtune.speech.export.engines import Engine
    from mmtune.speech.export.material import Material
    from mmtune.speech.export.parity import Parity
    from mmtune.speech.whisper.base import WhisperBase


@dataclass(frozen=True, kw_only=True)
class SpeechFormat(ExportFormat):
    """A folder that another engine loads; the engine's transcripts of the same clips check it.

    Attributes:
        write: writes a base with the merged adapter, in a precision, to a folder that doesn't
            exist yet.
        engine: opens the folder in its engine; the last argument is whether the base forbids ids.
        engine_packages: modules that the engine needs.
        use: says how to use the folder.
    """

    write: Callable[[WhisperBase, str, Path], None]
    engine: Callable[[Path, str, bool], Engine]
    use: Callable[[Path], str]
    engine_packages: tuple[str, ...] = ()

    def finish(self, request: Export, place: Path) -> tuple[str, ...]:
        """Say how to use the folder, and that it needs neither the base nor a strength."""
        whole = (
            f"it is a whole model: the adapter is in the weights of {request.base}, at "
            f"{request.of_trained:g} of its trained strength"
        )
        return (f"{self.use(place)}; {whole}",)

    def export(self, request: Export) -> Exported:
        """Write the folder `request.to`, check it, and record the result in its PARITY.json.

        Without `request.check`, synthetic sentences are used. If no voice or no engine is
        installed, the export isn't checked, and a note says so.

        Raises:
            ConfigError: the format lacks the precision, or `request.to` names a file.
            MissingExtra: the packages for the check aren't installed.
            BaseModelError, AdapterError: base or adapter can't be used, or the format can't hold
                them.
            DataError: `request.check` can't be used.
        """
        return _export(request, self)


def _export(request: Export, format: SpeechFormat) -> Exported:
    from mmtune.adapters.card import versions
    from mmtune.speech.export import parity
    from mmtune.speech.export.fold import merge

    precision = format.precision_of(request)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        material, notes = _material(request, format, scratch)
        merged = merge(request.base, request.adapter, request.scale)
        format.write(merged, precision, request.to)
        facts: dict[str, Any] = {
            "format": request.format,
            "precision": precision,
            "scale": request.scale,
            "adapter": request.card.name,
            "base": request.base,
            "base_hash": merged.fingerprint,
            "weights": hashed_weights(request.to),
            "versions": versions() | _versions(format.engine_packages),
        }
        if material is None:
            parity.write(request.to, facts | {"checked": False, "passed": None, "notes": notes})
            return Exported(request.to, request.format, {}, notes)
        found = _compare(request, format, merged, material, precision)
    notes = (*notes, *_remarks(request, format, found))
    parity.write(request.to, facts | found.record() | {"notes": notes})
    return Exported(
        request.to,
        request.format,
        {
            "clips": found.clips,
            "words": found.words,
            "WER": f"{found.exported.same or 0:.2f} %",
            "identical": f"{found.identical:.1%}",
        },
        notes,
        failed="; ".join(found.faults),
        table=found.table(),
    )


def _remarks(request: Export, format: SpeechFormat, found: Parity) -> Iterator[str]:
    from mmtune.speech.export.parity import LIMITS

    limits = LIMITS[found.precision]
    if request.check is not None and found.allowed > limits.points:
        yield (
            f"{found.words} words are few: one wrong word is {found.allowed:.2f} points of WER; "
            "check with more rows for a precise result"
        )
    if found.faults and found.exported.same is not None and limits.identical is None:
        others = [each for each in format.precisions if each != found.precision]
        yield (
            f"{found.precision} rounds the weights, and {1 - found.identical:.0%} of the clips "
            "have other transcripts: read them in PARITY.json, check with more clips, or use "
            f"--precision {others[0]}"
        )


def _material(
    request: Export, format: SpeechFormat, scratch: Path
) -> tuple[Material | None, tuple[str, ...]]:
    """Return the rows for the check, with notes; raises before any work what would raise later."""
    from mmtune.speech.export.material import of_manifest, synthetic

    needed, purpose = format.engine_packages, f"the format {format.name}"
    if request.check is not None:
        require_packages(f"checking {purpose}", *needed)
        found = of_manifest(request.check)
        return found, found.notes
    try:
        require_packages(f"checking {purpose}", *needed)
    except MissingExtra as error:
        return None, (f"NOT CHECKED: {error.found}: {error.cure}",)
    made = synthetic(scratch)
    if made is None:
        return None, ("NOT CHECKED: no voice is installed; add --check MANIFEST",)
    return made, made.notes


def _compare(
    request: Export,
    format: SpeechFormat,
    merged: WhisperBase,
    material: Material,
    precision: str,
) -> Parity:
    from mmtune.speech.export import parity
    from mmtune.speech.export.engines import Reference
    from mmtune.speech.whisper.base import load_base

    reference = Reference(load_base(request.base), request.adapter, request.scale)
    forbids = bool(merged.model.generation_config.suppress_tokens)
    engine = _open(format, request.to, precision, forbids)
    return parity.compare(material.rows, material.source, reference, engine, precision)


def _open(format: SpeechFormat, folder: Path, precision: str, forbids: bool) -> Engine | Exception:
    try:
        return format.engine(folder, precision, forbids)
    except Exception as error:  # any error of an engine means that the export has failed
        return error


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
