"""Adapters at work: transcripts, images, exports, several as one."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.rows import Row
from mmtune.errors import ERROR, FINDINGS, ConfigError, DataError
from mmtune.system.files import unique_name


def transcribe(options: argparse.Namespace) -> int:
    import sys

    from mmtune.adapters.resolve import answering

    given = {options.adapter: 1.0} if options.adapter is not None else {}
    model = answering("speech", given, base=options.base, label=options.label)
    inputs, failed = _inputs(options.files)
    out: Path | None = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder: --out DIR")
    names = [name.strip() for name in (options.speakers or "").split(",") if name.strip()]
    from mmtune.cli.console import quiet_libraries
    from mmtune.speech.transcription import predictor as models
    from mmtune.speech.transcription import transcribe as speech
    from mmtune.speech.transcription.retrieve import TermIndex, read_list
    from mmtune.speech.transcription.transcript import TIMED, WRITERS

    terms = None
    if options.terms is not None:
        listed = read_list(options.terms)
        terms = TermIndex(listed.terms, listed.spoken)
    quiet_libraries()
    predictor = models.open_predictor(
        model.base, model.adapters, language=options.language, beams=options.beams
    )
    if model.note and any(each.row is None for each in inputs):
        print(f"note: {model.note}", file=sys.stderr)
    write = WRITERS[options.format]
    for each in inputs:
        try:
            found = speech.transcribe(
                each.path if each.row is None else each.row,
                predictor,
                weights=model.choose(each.row),
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
            file = out / f"{each.name}.{options.format}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(file, flush=True)
        elif options.format == "json":
            import json

            head = {"file": str(each.path)} | ({"id": each.row.id} if each.row is not None else {})
            print(json.dumps(head, ensure_ascii=False)[:-1] + ", " + text[1:], end="", flush=True)
        else:
            name = f"{each.shown}: " if len(inputs) > 1 and options.format == "txt" else ""
            print(name + text, end="", flush=True)
    return ERROR if failed else 0


@dataclass(frozen=True)
class _Input:
    """A recording to transcribe: a file, or what a row of a manifest names."""

    path: Path
    name: str  # of what is written for it, without suffix
    row: Row | None = None

    @property
    def shown(self) -> str:
        """How it is called on the terminal."""
        return str(self.path) if self.row is None else self.row.id


def _inputs(paths: Sequence[Path]) -> tuple[list[_Input], bool]:
    """What to transcribe, and whether some rows of manifests can't be.

    Raises:
        ConfigError: a file is missing, or a folder holds no recording.
        DataError: a manifest can't be used.
    """
    manifests = [path for path in paths if path.suffix == ".jsonl" and path.is_file()]
    found = _recordings([path for path in paths if path not in manifests])
    inputs = [_Input(path, name) for path, name in found.items()]
    taken, lost = set(found.values()), False
    for manifest in manifests:
        rows, bad = _rows(manifest, "speech")
        lost = lost or bad
        for row in rows:
            words = [re.sub(r"[^\w.-]", "_", part).strip(".") for part in row.id.split("/")]
            name = unique_name("/".join(filter(None, words)) or "row", taken)
            taken.add(name)
            inputs.append(_Input(row.path, name, row))
    return inputs, lost


def _rows(manifest: Path, modality: str) -> tuple[Sequence[Row], bool]:
    """The usable rows of a manifest, and whether there are others: those are told.

    Raises:
        DataError: it can't be used, or none is left.
    """
    import sys

    from mmtune.data.check import place
    from mmtune.data.manifest import read_rows, root_of
    from mmtune.runs.modalities import find_modality

    rows, findings = read_rows(manifest, find_modality(modality))
    usable: list[Row] = []
    for row in rows:
        placed = place(row, root_of(manifest))
        if isinstance(placed, Row):
            usable.append(placed)
        else:
            findings.append(placed)
    wrong = [finding for finding in findings if finding.severity == "error"]
    if not usable:
        raise DataError(f"{manifest} holds no usable row", f"mmtune check {manifest}")
    for finding in wrong:
        print(f"error: {manifest}: {finding.row}: {finding.message}", file=sys.stderr)
    return usable, bool(wrong)


def _recordings(paths: Sequence[Path]) -> dict[Path, str]:
    """The files to transcribe, and the name (without suffix) of what is written for each.

    Raises:
        ConfigError: one is missing, or a folder holds no recording.
    """
    from mmtune.data.manifest import scan_files
    from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES

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
        found[path] = unique_name(name if counts[name] == 1 else path.name, taken)
        taken.add(found[path])
    return found


def generate(options: argparse.Namespace) -> int:
    import sys

    from mmtune.adapters.resolve import answering

    weighted = _all_weighted(options.adapter or ())
    model = answering("image", weighted, base=options.base, label=options.label)
    prompts: list[str] = list(options.prompt or ())
    chosen = [model.choose(None)] * len(prompts)
    if prompts and model.note:
        print(f"note: {model.note}", file=sys.stderr)
    lost = False
    if options.rows is not None:
        rows, lost = _rows(options.rows, "image")
        prompts += [row.reference for row in rows]
        chosen += [model.choose(row) for row in rows]
    if not prompts:
        raise ConfigError("nothing to draw is named", '--prompt "a red apple", or --rows MANIFEST')
    # How the first adapter was trained is how all are sampled.
    tasks = [card.settings.get("task") or {} for card in model.cards.values()]
    given = {name: getattr(options, name) for name in ("steps", "guidance")}
    settings = {name: tasks[0][name] for name in given if tasks and name in tasks[0]}
    settings |= {name: value for name, value in given.items() if value is not None}
    if settings.get("guidance", 1) < 1:
        raise ConfigError(f"--guidance {options.guidance:g} is below 1", "1 is off")
    if options.seeds and options.count > 1:
        raise ConfigError("--seeds and --count are both given", "--count N counts from --seed")
    triggers = {
        model.adapters[name]: str((card.settings.get("task") or {}).get("trigger") or "")
        for name, card in model.cards.items()
        if not options.no_trigger
    }
    from mmtune.cli.console import quiet_libraries
    from mmtune.image.sampling import generate as image

    quiet_libraries()
    paths = image.generate(
        prompts,
        options.out,
        base=model.base,
        adapter=[
            {model.adapters[name]: weight for name, weight in weights.items()} for weights in chosen
        ],
        weight=options.scale,
        seeds=options.seeds or range(options.seed, options.seed + options.count),
        quantize=options.quantize,
        batch=options.sample_batch,
        grid=options.grid,
        triggers=triggers,
        **settings,
    )
    for path in paths:
        print(path)
    return ERROR if lost else 0


def _all_weighted(texts: Sequence[str]) -> dict[Path, float]:
    """Adapters' paths with their weights, none given twice."""
    weighted: dict[Path, float] = {}
    for text in texts:
        path, weight = _weighted(text)
        if path in weighted:
            raise ConfigError(f"{path} is given twice", "give it once, with its =WEIGHT")
        weighted[path] = weight
    return weighted


def _weighted(text: str) -> tuple[Path, float]:
    """An adapter's path and its weight, of `DIR` or `DIR=WEIGHT`."""
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
    from mmtune.cli.console import output, plain_table, quiet_libraries

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
    from mmtune.adapters.compose import compose as merge
    from mmtune.adapters.members import DENSITY, DRAWN, PRUNING, Mixing, check_mixing
    from mmtune.adapters.routing import write_gate
    from mmtune.cli.console import output, plain_table, quiet_libraries

    data: Path | None = options.compare if isinstance(options.compare, Path) else None
    if data is not None and not data.exists():
        raise ConfigError(f"no such file or folder: {data}", "give a manifest.jsonl")
    method = options.method or "cat"
    for name, methods in (("density", PRUNING), ("seed", DRAWN)):
        if getattr(options, name) is not None and method not in methods:
            raise ConfigError(
                f"--{name} changes nothing of --method {method}", f"it is for {', '.join(methods)}"
            )
    density = DENSITY if options.density is None else options.density
    mixing = Mixing(method, density, options.rank, options.seed or 0)
    check_mixing(mixing)
    weighted = _all_weighted(options.adapters)
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
        from mmtune.runs.try_ways import settings_of, trials_of, try_out

        with tempfile.TemporaryDirectory() as scratch:
            asked = settings_of(options.out, weighted, mixing, Path(scratch))
            facts |= {"notes": asked.notes, "comparison": try_out(asked, trials_of(asked, data))}
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
        return 0
    print(options.out)
    if "distance" in facts:
        print(f"distance from the weighted sum of the updates: {facts['distance']:.2g}")
    if "comparison" in facts:
        output().print(plain_table(facts["comparison"]))
        for note in facts["notes"]:
            print(f"note: {note}")
    return 0
