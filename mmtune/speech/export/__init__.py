"""Speech adapters for other engines: merged, written, and heard against what was evaluated.

Nothing heavy is imported here: whisper.cpp's own process imports this package too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmtune.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from mmtune.adapters.exported import Export, Exported
    from mmtune.speech.export.engines import Engine
    from mmtune.speech.export.material import Material
    from mmtune.speech.export.parity import Parity
    from mmtune.speech.whisper.base import WhisperBase

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "transformers": "a merged Whisper folder (fp32, fp16, bf16)",
        "ctranslate2": "a folder for faster-whisper (fp32, fp16, int8)",
        "ggml": "a folder with a file for whisper.cpp (fp16)",
    }
)
# The first is what is written where none is named.
PRECISIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "transformers": ("fp32", "fp16", "bf16"),
        "ctranslate2": ("fp32", "fp16", "int8"),
        "ggml": ("fp16",),
    }
)
NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"ctranslate2": ("ctranslate2", "faster_whisper"), "ggml": ("pywhispercpp",)}
)


def export(request: Export) -> Exported:
    """Write `request.to`, a folder, in one of `FORMATS`; compare it; say so in its PARITY.json.

    Without `request.check` it is compared on synthetic sentences, or, where there is no voice or no
    engine, not at all, which is noted.

    Raises:
        ConfigError: a precision that the format hasn't got, or a file's name for a folder.
        MissingExtra: what writes the format, or what is to check it, isn't installed.
        BaseModelError, AdapterError: base or adapter can't be used, or the format can't hold them.
        DataError: `request.check` can't be used.
    """
    from mmtune.adapters.card import versions
    from mmtune.adapters.exported import Exported
    from mmtune.speech.export import parity
    from mmtune.speech.export.fold import merge

    precision = _precision(request)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        material, notes = _material(request, scratch)
        merged = merge(request.base, request.adapter, request.scale)
        _write(merged, request.format, precision, request.to)
        facts: dict[str, Any] = {
            "format": request.format,
            "precision": precision,
            "scale": request.scale,
            "adapter": request.card.name,
            "base": request.base,
            "base_hash": merged.fingerprint,
            "versions": versions() | _versions(request.format),
        }
        if material is None:
            parity.write(request.to, facts | {"checked": False, "passed": None, "notes": notes})
            return Exported(request.to, request.format, {}, notes)
        found = _compare(request, merged, material, precision)
    notes = (*notes, *_remarks(request, found))
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


def _remarks(request: Export, found: Parity) -> Iterator[str]:
    from mmtune.speech.export.parity import LIMITS

    limits = LIMITS[found.precision]
    if request.check is not None and found.allowed > limits.points:
        yield f"{found.words} words are few: one of them is {found.allowed:.2f} points of WER"
    if found.faults and found.exported.same is not None and limits.identical is None:
        others = [each for each in PRECISIONS[request.format] if each != found.precision]
        yield (
            f"{found.precision} rounds the weights, and {1 - found.identical:.0%} of the clips "
            "were heard otherwise: look at them in PARITY.json, check with more clips, or take "
            f"--precision {others[0]}"
        )


def _precision(request: Export) -> str:
    known = PRECISIONS[request.format]
    if request.precision and request.precision not in known:
        why = "; whisper.cpp's convolutions need it" if request.format == "ggml" else ""
        raise ConfigError(
            f"--precision {request.precision}: format {request.format} is written in "
            f"{', '.join(known)}{why}",
            f"--precision {known[0]}",
        )
    if request.to.suffix in {".bin", ".safetensors", ".gguf", ".ggml", ".pt"}:
        raise ConfigError(
            f"{request.to.name}: format {request.format} is a folder", f"--out {request.to.stem}"
        )
    return request.precision or known[0]


def _material(request: Export, scratch: Path) -> tuple[Material | None, tuple[str, ...]]:
    """What is heard, and remarks; raises before any work what would raise after it."""
    from mmtune.speech.export.material import of_manifest, synthetic
    from mmtune.speech.export.to_ctranslate2 import require_packages

    needed = NEEDED.get(request.format, ())
    purpose = f"the format {request.format}"
    if request.format == "ctranslate2":
        require_packages(purpose, needed[0])
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
        return None, ("NOT CHECKED: there is no speech to compare on: give --check MANIFEST",)
    return made, made.notes


def _write(merged: WhisperBase, format: str, precision: str, to: Path) -> None:
    from mmtune.speech.export.to_ctranslate2 import write_ctranslate2
    from mmtune.speech.export.to_ggml import MODEL_FILE, write_ggml
    from mmtune.speech.export.to_transformers import write_transformers

    if format == "transformers":
        write_transformers(merged, to, precision)
    elif format == "ggml":
        to.mkdir(parents=True)
        write_ggml(merged, to / MODEL_FILE)
    else:
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".merged-") as between:
            source = Path(between)
            write_transformers(merged, source)
            write_ctranslate2(source, merged, to, precision)


def _compare(request: Export, merged: WhisperBase, material: Material, precision: str) -> Parity:
    from mmtune.speech.export import parity
    from mmtune.speech.export.engines import Reference
    from mmtune.speech.whisper.base import load_base

    reference = Reference(load_base(request.base), request.adapter, request.scale)
    forbids = bool(merged.model.generation_config.suppress_tokens)
    engine = _open(request.format, request.to, precision, forbids)
    return parity.compare(material.rows, material.source, reference, engine, precision)


def _open(format: str, folder: Path, precision: str, forbids: bool) -> Engine | Exception:
    from mmtune.speech.export.engines import FasterWhisper, Transformers, WhisperCpp

    try:
        if format == "transformers":
            return Transformers(folder)
        if format == "ctranslate2":
            return FasterWhisper(folder, precision)
        return WhisperCpp(folder, forbids)
    except Exception as error:  # an export that doesn't load has failed, whatever its engine raises
        return error


def _versions(format: str) -> dict[str, str]:
    import importlib.metadata

    found = {}
    for name in NEEDED.get(format, ()):
        try:
            found[name] = importlib.metadata.version(name.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
