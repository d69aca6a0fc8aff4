"""Commands: export, compose, push."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmtune.adapters.resolve import all_weighted
from mmtune.errors import FINDINGS
from mmtune.system.arguments import Parser, add_base_config, finite, in_help, positive, seed
from mmtune.system.output import say


def export_arguments(parser: Parser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN|ADAPTER",
        help="a run folder, an adapter folder or an adapter of another program (needs --base)",
    )
    from mmtune.runs.modalities import formats_in_words

    parser.add_argument(
        "--format",
        required=True,
        help=in_help(f"file format to write, by the adapter's modality; {formats_in_words()}"),
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="new file or folder to write"
    )
    parser.add_argument("--base", help="base model (default: the one that the adapter names)")
    add_base_config(parser)
    parser.add_argument(
        "--scale", type=finite, help="adapter strength (default: the one at which it was judged)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16", "int8"),
        default="",
        help="number format of the written weights, for speech formats and for fused; int8 with "
        "ctranslate2 only (default: fp32; for ggml fp16)",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="MANIFEST",
        help="recordings on which the export must score as the adapter does",
    )
    parser.add_argument(
        "--accept-licence",
        default="",
        metavar="NAME",
        help="accept the licence of a base that restricts its use, by its name",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def export(options: argparse.Namespace) -> int:
    """Run `mmtune export`: write an adapter for other programs."""
    import json

    from mmtune.cli.console import show
    from mmtune.runs import public_adapters as public

    done = public.export(
        options.run,
        options.format,
        options.out,
        base=options.base,
        scale=options.scale,
        precision=options.precision,
        check=options.check,
        accept_licence=options.accept_licence,
    )
    if options.json:
        say(json.dumps(done.to_dict(), indent=2))
        return FINDINGS if done.failed else 0
    parts = list(done.shown())
    failure = parts.pop() if done.failed else ""
    show(parts)
    if failure:
        say(failure, error=True)
        say(
            f"  cure: don't use this export; it is kept in {done.path} for inspection",
            error=True,
        )
        return FINDINGS
    return 0


def compose_arguments(parser: Parser) -> None:
    parser.add_argument(
        "adapters",
        nargs="*",
        metavar="RUN|ADAPTER[=WEIGHT]",
        help="run folders, adapter folders or adapters of other programs (which need --base), with "
        "weights (default: 1)",
    )
    from mmtune.adapters.members import DENSITY, METHODS, methods_in_words

    parser.add_argument(
        "--method", help=in_help(f"how to merge: {methods_in_words()} (default: cat)")
    )
    pruning = ", ".join(name for name, method in METHODS.usable() if method.prunes)
    parser.add_argument(
        "--density",
        type=finite,
        help=f"share of the values that {pruning} keep (default: {DENSITY})",
    )
    parser.add_argument(
        "--rank",
        type=positive,
        help="rank of the result of svd (default: the largest rank of the adapters)",
    )
    parser.add_argument("--seed", type=seed, help="random seed for DARE (default: 0)")
    parser.add_argument(
        "--route",
        "--gate",
        type=Path,
        metavar="FILE",
        help="route rows to adapters by label: a YAML file that names an adapter for each label",
    )
    parser.add_argument("--base", help="base model (default: the one that the adapters name)")
    add_base_config(parser)
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="?",
        const=True,
        metavar="MANIFEST",
        help="measure each adapter alone, all together and merged, on all rows of a manifest or "
        "folder, or on those whose split is test (default: on each run's own test items)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder to write"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def compose(options: argparse.Namespace) -> int:
    import json

    from mmtune.cli.console import show
    from mmtune.runs import public_adapters as public

    weighted: Any = all_weighted(options.adapters)
    done = public.compose(
        weighted,
        out=options.out,
        method=options.method,
        density=options.density,
        rank=options.rank,
        seed=options.seed,
        route=options.route,
        base=options.base,
        compare=options.compare or False,
    )
    if options.json:
        say(json.dumps(done.to_dict(), indent=2))
        return 0
    show(done.shown())
    return 0


def push_arguments(parser: Parser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN|ADAPTER",
        help="a run folder, or an adapter folder that mmtune wrote",
    )
    parser.add_argument(
        "repository", metavar="HUB_ID", help="repository on the hub to upload to, as OWNER/NAME"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list the files that would be uploaded, with their sizes, and upload nothing",
    )
    parser.add_argument(
        "--public",
        action="store_true",
        help="let everybody see the repository (default: a new one is private, and an existing one "
        "must be)",
    )
    parser.add_argument(
        "--base",
        metavar="HUB_ID",
        help="the base's id on the hub, if it was trained on a folder (default: the one that the "
        "adapter names)",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="upload also where the verdict is against the adapter, or its base is a starter",
    )
    parser.add_argument(
        "--accept-licence",
        default="",
        metavar="NAME",
        help="accept the licence of a base that restricts its use, by its name",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def push(options: argparse.Namespace) -> int:
    """Run `mmtune push`: upload an adapter to the Hugging Face hub."""
    import json

    from mmtune.cli.console import show
    from mmtune.runs import public_adapters as public

    done = public.push(
        options.run,
        options.repository,
        base=options.base,
        private=not options.public,
        anyway=options.anyway,
        dry=options.dry_run,
        accept_licence=options.accept_licence,
    )
    if options.json:
        say(json.dumps(done.to_dict(), indent=2))
    else:
        show(done.shown())
    return 0
