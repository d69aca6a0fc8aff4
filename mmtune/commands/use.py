"""Adapters at work: transcripts, images, exports, several as one."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.errors import AdapterError, ConfigError, DataError
from mmtune.exits import ERROR, FINDINGS


def _model(options: argparse.Namespace, modality: str) -> tuple[str, Path | None, dict[str, Any]]:
    """Base, adapter (None: the base alone) and the settings that it was trained with."""
    if options.adapter is None:
        if options.base is None:
            raise ConfigError("no model is named", "give --adapter runs/NAME, or --base BASE")
        return options.base, None, {}
    from mmtune.adapters.card import adapter_folder, read_card

    folder = adapter_folder(options.adapter)
    card = read_card(folder)
    if card.modality != modality:
        raise AdapterError(
            f"{folder} is an adapter for {card.modality}, not {modality}",
            "`mmtune transcribe` takes speech adapters, `mmtune generate` image adapters",
        )
    return options.base or card.base, folder, card.settings.get("task") or {}


def transcribe(options: argparse.Namespace) -> int:
    import sys

    base, adapter, _ = _model(options, "speech")
    inputs = _recordings(options.files)
    out: Path | None = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder: --out DIR")
    names = [name.strip() for name in (options.speakers or "").split(",") if name.strip()]
    from mmtune.console import quiet_libraries
    from mmtune.speech import predictor as models
    from mmtune.speech import transcribe as speech
    from mmtune.speech.retrieve import TermIndex, read_list
    from mmtune.speech.transcript import TIMED, WRITERS

    terms = None
    if options.terms is not None:
        listed = read_list(options.terms)
        terms = TermIndex(listed.terms, listed.spoken)
    quiet_libraries()
    predictor = models.open_predictor(base, adapter, language=options.language, beams=options.beams)
    write, failed = WRITERS[options.format], False
    for path, target in inputs.items():
        try:
            found = speech.transcribe(
                path,
                predictor,
                prompt=options.prompt,
                words=options.words or options.format in TIMED,
                channels=options.channels,
                names=names,
                terms=terms,
            )
        except DataError as error:
            if len(inputs) == 1:
                raise
            # One bad file of a folder doesn't keep the others from being heard.
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        text = write(found)
        if out is not None:
            file = out / f"{target}.{options.format}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(file, flush=True)
        elif options.format == "json":
            import json

            print(json.dumps({"file": str(path)})[:-1] + ", " + text[1:], end="", flush=True)
        else:
            name = f"{path}: " if len(inputs) > 1 and options.format == "txt" else ""
            print(name + text, end="", flush=True)
    return ERROR if failed else 0


def _recordings(paths: Sequence[Path]) -> dict[Path, str]:
    """The files to transcribe, and the name (without suffix) of what is written for each.

    Raises:
        ConfigError: one is missing, or a folder holds no recording.
    """
    from mmtune.data.manifest import scan_files
    from mmtune.speech.check import SPEECH_SUFFIXES

    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            files = list(scan_files(path, SPEECH_SUFFIXES))
            if not files:
                raise ConfigError(f"{path} holds no recording", "name a folder of audio files")
            found |= {path / relative: name for name, relative in files}
        elif path.is_file():
            found[path] = path.stem
        else:
            raise ConfigError(f"no such file: {path}", "name existing audio files")
    counts = Counter(found.values())
    # Files of one name from several places keep their suffix or, if that is the same, a number.
    taken: set[str] = set()
    for path, name in found.items():
        unique = name if counts[name] == 1 else path.name
        number = 1
        while unique in taken:
            number += 1
            unique = f"{path.name}-{number}"
        taken.add(unique)
        found[path] = unique
    return found


def generate(options: argparse.Namespace) -> int:
    adapters: dict[Path, float] = {}
    settings: dict[str, Any] = {}
    triggers: list[str] = []
    base = options.base
    for text in options.adapter or [None]:
        path, weight = _weighted(text)
        one = argparse.Namespace(adapter=path, base=options.base)
        found, folder, trained_with = _model(one, "image")
        if folder is None:
            base = found
            continue
        if folder in adapters:
            raise ConfigError(f"--adapter {path} is given twice", "give it once, with its =WEIGHT")
        if base is not None and found != base:
            raise AdapterError(
                f"{folder} is for {found}, and the adapter before it for {base}",
                "take adapters of one base, or say which to use: --base BASE",
            )
        adapters[folder], base = weight, found
        settings = settings or trained_with
        if not options.no_trigger:
            triggers.append(str(trained_with.get("trigger") or ""))
    given = {name: getattr(options, name) for name in ("steps", "guidance")}
    chosen = {name: settings[name] for name in given if name in settings}
    chosen |= {name: value for name, value in given.items() if value is not None}
    if chosen.get("guidance", 1) < 1:
        raise ConfigError(f"--guidance {options.guidance:g} is below 1", "1 is off")
    if options.seeds and options.count > 1:
        raise ConfigError("--seeds and --count are both given", "--count N counts from --seed")
    from mmtune.console import quiet_libraries
    from mmtune.image import generate as image

    quiet_libraries()
    paths = image.generate(
        options.prompt,
        options.out,
        base=base,
        adapter=adapters,
        weight=options.scale,
        seeds=options.seeds or range(options.seed, options.seed + options.count),
        quantize=options.quantize,
        batch=options.sample_batch,
        grid=options.grid,
        triggers=triggers,
        **chosen,
    )
    for path in paths:
        print(path)
    return 0


def _weighted(text: str | None) -> tuple[Path | None, float]:
    """An adapter's path and its weight, of `DIR` or `DIR=WEIGHT`."""
    if text is None:
        return None, 1.0
    path, equals, weight = text.rpartition("=")
    if equals and path and not Path(text).exists():
        try:
            return Path(path), float(weight)
        except ValueError:
            pass
    return Path(text), 1.0


def export(options: argparse.Namespace) -> int:
    import sys

    from mmtune.adapters import export as adapters
    from mmtune.console import output, plain_table, quiet_libraries

    if options.check is not None and not options.check.exists():
        raise ConfigError(f"no such file or folder: {options.check}", "give a manifest.jsonl")
    quiet_libraries()
    done = adapters.export(
        options.run,
        options.format,
        options.out,
        base=options.base,
        scale=options.scale,
        precision=options.precision,
        check=options.check,
        accept=options.accept_licence,
    )
    if options.json:
        import dataclasses
        import json

        print(json.dumps(dataclasses.asdict(done) | {"path": str(done.path)}, indent=2))
        return FINDINGS if done.failed else 0
    print(done.path)
    if done.table:
        output().print(plain_table(done.table))
    proof = ", ".join(f"{name} {value}" for name, value in done.proof.items())
    if proof and not done.failed:
        print(f"proved: {proof}")
    for note in done.notes:
        print(f"note: {note}")
    if done.failed:
        print(f"failed: {done.failed}", file=sys.stderr)
        print(f"  cure: don't ship it; it lies in {done.path} to be looked at", file=sys.stderr)
        return FINDINGS
    return 0


def compose(options: argparse.Namespace) -> int:
    from mmtune.adapters.compose import DENSITY, DRAWN, PRUNING, Mixing, check_mixing
    from mmtune.adapters.compose import compose as merge
    from mmtune.adapters.gate import write_gate
    from mmtune.console import output, plain_table, quiet_libraries

    if options.compare is not None and not options.compare.exists():
        raise ConfigError(f"no such file or folder: {options.compare}", "give a manifest.jsonl")
    method = options.method or "cat"
    for name, methods in (("density", PRUNING), ("seed", DRAWN)):
        if getattr(options, name) is not None and method not in methods:
            raise ConfigError(
                f"--{name} changes nothing of --method {method}", f"it is for {', '.join(methods)}"
            )
    density = DENSITY if options.density is None else options.density
    mixing = Mixing(method, density, options.rank, options.seed or 0)
    check_mixing(mixing)
    weighted: dict[Path, float] = {}
    for text in options.adapters:
        path, weight = _weighted(text)
        assert path is not None
        if path in weighted:
            raise ConfigError(f"{path} is given twice", "give it once, with its =WEIGHT")
        weighted[path] = weight
    quiet_libraries()
    facts: dict[str, Any] = {"path": str(options.out)}
    if options.gate is not None:
        if weighted or options.method or options.rank is not None:
            raise ConfigError(
                "--gate names its adapters itself, and merges none", "leave out the others"
            )
        gated = write_gate(options.gate, options.out, base=options.base)
        facts |= {"gate": gated.gate.model_dump()}
    else:
        merged = merge(weighted, mixing, options.out, base=options.base)
        facts |= {"method": method, "distance": merged.distance}
    if options.compare is not None:
        from mmtune.adapters.settings import settings_of, try_out

        facts["comparison"] = try_out(settings_of(options.out, weighted), options.compare)
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
        return 0
    print(options.out)
    if "distance" in facts:
        print(f"distance from the weighted sum of the updates: {facts['distance']:.2g}")
    if "comparison" in facts:
        output().print(plain_table(facts["comparison"]))
    return 0
