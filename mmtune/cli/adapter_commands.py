"""Commands that write adapters for use: export, compose."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mmtune.adapters.resolve import all_weighted
from mmtune.errors import FINDINGS, ConfigError
from mmtune.system.arguments import Parser, positive


def export_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune export`."""
    parser.add_argument(
        "run", type=Path, metavar="RUN|ADAPTER", help="run folder, or its adapter/ folder"
    )
    parser.add_argument(
        "--format",
        required=True,
        help="format to write; for speech: transformers, ctranslate2 (faster-whisper) or ggml "
        "(whisper.cpp); for images: diffusers, kohya (ComfyUI, A1111) or fused",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="file or folder to create"
    )
    parser.add_argument("--base", help="base model (default: the adapter's)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="strength of the adapter (default: 1)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16", "int8"),
        default="",
        help="number format of exported speech models and of --format fused; int8 needs "
        "ctranslate2 (default: fp32; fp16 with ggml)",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="MANIFEST",
        help="speech on which export and adapter must score the same",
    )
    parser.add_argument(
        "--accept-licence",
        default="",
        metavar="NAME",
        help="accept a base's licence that restricts its use, by the licence's name",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def export(options: argparse.Namespace) -> int:
    """Run `mmtune export`: write an adapter for other programs."""
    import sys

    from mmtune.cli.console import output, plain_table
    from mmtune.runs import adapters
    from mmtune.system.quiet import quiet_libraries

    if options.check is not None and not options.check.exists():
        raise ConfigError(
            f"--check: no such file or folder: {options.check}", "give a manifest.jsonl"
        )
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
        print(f"checked: {proof}")
    for note in done.notes:
        print(f"note: {note}")
    if done.failed:
        print(f"failed: {done.failed}", file=sys.stderr)
        print(
            f"  cure: don't use this export; it is kept in {done.path} for inspection",
            file=sys.stderr,
        )
        return FINDINGS
    return 0


def compose_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune compose`."""
    parser.add_argument(
        "adapters",
        nargs="*",
        metavar="RUN|ADAPTER[=WEIGHT]",
        help="adapters to merge: run folders or adapter/ folders (default weight: 1)",
    )
    parser.add_argument(
        "--method",
        help="how to merge: cat (default; exact), svd, linear, ties, dare_linear, dare_ties or "
        "magnitude_prune",
    )
    parser.add_argument(
        "--density",
        type=float,
        help="share of values that ties, dare and magnitude_prune keep (default: 0.5)",
    )
    parser.add_argument(
        "--rank",
        type=positive,
        help="rank of the merged adapter with svd (default: the largest rank of the adapters)",
    )
    parser.add_argument("--seed", type=int, help="random seed for DARE (default: 0)")
    parser.add_argument(
        "--route",
        "--gate",
        dest="route",
        type=Path,
        metavar="FILE",
        help="YAML file that names an adapter for each label; nothing is merged then",
    )
    parser.add_argument("--base", help="base model (default: the adapters')")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="?",
        const=True,
        metavar="MANIFEST",
        help="compare each adapter alone, all together and merged, on a manifest (default: on "
        "each run's own test items)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def compose(options: argparse.Namespace) -> int:
    """Run `mmtune compose`: merge adapters, or write a route."""
    from mmtune.adapters.members import DENSITY, DRAWN, PRUNING, Mixing, check_mixing
    from mmtune.adapters.routing import write_route
    from mmtune.cli.console import output, plain_table
    from mmtune.runs.adapters import compose as merge
    from mmtune.system.quiet import quiet_libraries

    data: Path | None = options.compare if isinstance(options.compare, Path) else None
    if data is not None and not data.exists():
        raise ConfigError(f"--compare: no such file or folder: {data}", "give a manifest.jsonl")
    method = options.method or "cat"
    for name, methods in (("density", PRUNING), ("seed", DRAWN)):
        if getattr(options, name) is not None and method not in methods:
            raise ConfigError(
                f"--{name} has no effect with --method {method}",
                f"leave it out, or use --method {' or '.join(methods)}",
            )
    density = DENSITY if options.density is None else options.density
    mixing = Mixing(method, density, options.rank, options.seed or 0)
    check_mixing(mixing)
    weighted = all_weighted(options.adapters)
    quiet_libraries()
    facts: dict[str, Any] = {"path": str(options.out)}
    if options.route is not None:
        if weighted or options.method or options.rank is not None:
            raise ConfigError(
                "--route can't be combined with adapters, --method or --rank: the route's file "
                "names the adapters, and nothing is merged",
                "give --route, --base, --compare and --out only",
            )
        routed = write_route(options.route, options.out, base=options.base)
        facts |= {"gate": routed.route.model_dump()}
    else:
        merged = merge(weighted, mixing, options.out, base=options.base)
        facts |= {"method": method, "distance": merged.distance}
    if options.compare is not None:
        from mmtune.runs.try_ways import test_sets_of, try_out, ways_of

        with tempfile.TemporaryDirectory() as scratch:
            asked = ways_of(options.out, weighted, mixing, Path(scratch))
            facts |= {"notes": asked.notes, "comparison": try_out(asked, test_sets_of(asked, data))}
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
        return 0
    print(options.out)
    if "distance" in facts:
        print(f"relative distance from the adapters' weighted sum: {facts['distance']:.2g}")
    if "comparison" in facts:
        output().print(plain_table(facts["comparison"]))
        for note in facts["notes"]:
            print(f"note: {note}")
    return 0
