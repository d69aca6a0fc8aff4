"""The commands `mmtune generate` and `mmtune caption`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from mmtune.adapters.resolve import all_weighted
from mmtune.errors import ERROR, ConfigError
from mmtune.system.arguments import (
    Parser,
    add_base,
    add_base_config,
    add_label,
    finite,
    positive,
    seed,
    seeds,
    text,
)
from mmtune.system.output import say


def generate_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--adapter",
        action="append",
        metavar="DIR[=WEIGHT]",
        help="a run folder, an adapter folder, a route's folder or an adapter of another program "
        "(a .safetensors file or its folder; needs --base); repeat it for several adapters of one "
        "base",
    )
    add_base(parser)
    add_base_config(parser)
    add_label(parser)
    parser.add_argument(
        "--prompt", type=text, action="append", help="what to draw; repeat it for several prompts"
    )
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="MANIFEST",
        help="draw the captions of a manifest, each with its row's labels",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        help="random seed of the first image; -1 draws one at random and prints it (default: 0)",
    )
    parser.add_argument(
        "--count", type=positive, default=1, help="images of each prompt (default: 1)"
    )
    parser.add_argument(
        "--seeds", type=seeds, metavar="A,B", help="random seeds, in place of --seed and --count"
    )
    parser.add_argument(
        "--scale",
        type=finite,
        help="adapter strength; 0 gives the base model (default: the one at which the adapter was "
        "judged; 1 for several adapters)",
    )
    parser.add_argument(
        "--steps", type=positive, help="sampling steps (default: those of the adapter's training)"
    )
    parser.add_argument(
        "--guidance",
        type=finite,
        help="classifier-free guidance; 1 is off (default: that of the adapter's training)",
    )
    parser.add_argument(
        "--sample-batch", type=positive, default=16, help="images drawn at once (default: 16)"
    )
    parser.add_argument(
        "--quantize",
        choices=("none", "int8", "nf4"),
        default="none",
        help="hold the base's denoiser in fewer bits (default: none)",
    )
    parser.add_argument(
        "--grid", action="store_true", help="also write grid.png, with the base's images on top"
    )
    parser.add_argument(
        "--no-trigger", action="store_true", help="leave out the adapter's trigger phrase"
    )
    parser.add_argument(
        "--brand",
        type=Path,
        metavar="FILE",
        help="guide of the brand, such as brand.yaml; a prompt with a word that it forbids is "
        "refused (default: the words that the adapter carries from its training)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("images"),
        metavar="DIR",
        help="folder to write the images into; no file in it is overwritten (default: images)",
    )


def generate(options: argparse.Namespace) -> int:
    from mmtune.image import api
    from mmtune.image.sampling.strength_used import RANDOM_SEED, draw_seed

    if options.seeds and options.count > 1:
        raise ConfigError("--seeds and --count are both given", "--count N counts from --seed")
    first = options.seed
    if first == RANDOM_SEED and not options.seeds:
        first = draw_seed()
        say(f"note: seed {first}, drawn at random", error=True)
    found = api.generate(
        options.prompt or (),
        adapter=all_weighted(options.adapter or ()),
        base=options.base,
        label=options.label,
        rows=options.rows,
        seeds=options.seeds or range(first, first + options.count),
        scale=options.scale,
        steps=options.steps,
        guidance=options.guidance,
        batch=options.sample_batch,
        quantize=options.quantize,
        grid=options.grid,
        trigger=not options.no_trigger,
        brand=options.brand,
        out=options.out,
    )
    for note in found.notes:
        say(f"note: {note}", error=True)
    for problem in found.unusable:
        say(f"error: {problem}", error=True)
    say(found)
    return ERROR if found.unusable else 0


def caption_arguments(parser: Parser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="images; searched recursively")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a hub id or folder of an image-to-text model (default: words of the files' names)",
    )
    parser.add_argument("--prompt", type=text, help="instruction for the model of --model")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the captions and write nothing"
    )


def caption(options: argparse.Namespace) -> int:
    from mmtune.image.corpus import propose_captions as image

    if options.prompt is not None and options.model is None:
        raise ConfigError("--prompt is for a model", "name one: --model, or leave out --prompt")
    captioner: image.Captioner = image.by_name
    if options.model is not None:
        from mmtune.system.quiet import quiet_libraries

        quiet_libraries()
        captioner = image.ModelCaptioner(options.model, options.prompt)
    counts: Counter[str] = Counter()
    for each in image.propose(options.folder, captioner, write=not options.dry_run):
        counts[each.outcome] += 1
        if each.outcome == "new":
            say(f"{each.file}: {each.caption}", flush=True)
        elif each.outcome == "nothing":
            say(f"{each.image}: nothing to say", flush=True)
        elif each.outcome == "failed":
            say(f"error: {each.caption}", error=True, flush=True)
    done = "would be written" if options.dry_run else "written"
    say(
        f"{counts['new']} {done}, {counts['kept']} had one already, {counts['nothing']} without"
        + (f", {counts['failed']} can't be read" if counts["failed"] else "")
    )
    if counts["nothing"]:
        model = "another --model MODEL" if options.model else "--model MODEL"
        say(
            f"to caption the others, use {model}, or write a .txt file with the image's name for "
            "each"
        )
    if counts["new"] and not options.dry_run:
        from mmtune.data.versions import kept_version
        from mmtune.image.corpus.image_reader import ImageReader

        for finding in kept_version(options.folder, ImageReader(), "caption")[1]:
            say(f"warning: {finding.message}. Cure: {finding.cure}", error=True)
    if counts["new"]:
        say(f"next: read them, and mmtune check {options.folder}")
    return ERROR if counts["failed"] else 0
