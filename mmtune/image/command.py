"""The commands `mmtune generate` and `mmtune caption`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from mmtune.adapters.resolve import all_weighted
from mmtune.data.check import usable_rows
from mmtune.errors import ERROR, ConfigError
from mmtune.image.corpus.image_reader import READER
from mmtune.system.arguments import Parser, add_base, add_label, integers, positive


def generate_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--adapter",
        action="append",
        metavar="DIR[=WEIGHT]",
        help="run folder, its adapter/ folder or a route folder; repeat it to combine adapters of "
        "one base",
    )
    add_base(parser)
    add_label(parser)
    parser.add_argument(
        "--prompt", action="append", help="description of an image; repeat it for more prompts"
    )
    parser.add_argument(
        "--rows",
        type=Path,
        metavar="MANIFEST",
        help="manifest whose captions are used as prompts, with their labels",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the first image (default: 0)"
    )
    parser.add_argument(
        "--count",
        type=positive,
        default=1,
        help="images per prompt, with consecutive seeds (default: 1)",
    )
    parser.add_argument(
        "--seeds",
        type=integers,
        metavar="A,B",
        help="random seeds to use, one image per seed and prompt",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="adapter strength; 0 gives the base model (default: 1)",
    )
    parser.add_argument(
        "--steps", type=positive, help="sampling steps (default: as in the adapter's training)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        help="guidance scale; 1 turns guidance off (default: as in the adapter's training)",
    )
    parser.add_argument(
        "--sample-batch",
        type=positive,
        default=16,
        help="images to generate at once; fewer need less memory (default: 16)",
    )
    parser.add_argument(
        "--quantize",
        choices=("none", "int8", "nf4"),
        default="none",
        help="load the base's denoiser with 8 or 4 bits per weight to save memory (default: none)",
    )
    parser.add_argument(
        "--grid",
        action="store_true",
        help="also write grid.png, with the base's images in the top row",
    )
    parser.add_argument(
        "--no-trigger",
        action="store_true",
        help="don't put the adapter's trigger phrase before the prompts",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("images"),
        metavar="DIR",
        help="folder to write to (default: images)",
    )


def generate(options: argparse.Namespace) -> int:
    import sys

    from mmtune.adapters.resolve import resolve_adapters

    weighted = all_weighted(options.adapter or ())
    model = resolve_adapters("image", weighted, base=options.base, label=options.label)
    prompts: list[str] = list(options.prompt or ())
    chosen = [model.choose(None)] * len(prompts)
    if prompts and model.note:
        print(f"note: {model.note}", file=sys.stderr)
    lost = False
    if options.rows is not None:
        rows, lost = usable_rows(options.rows, READER)
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
    from mmtune.image.sampling import generate as image
    from mmtune.system.quiet import quiet_libraries

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


def caption_arguments(parser: Parser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder of images, searched recursively"
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="hub id or folder of an image-to-text model that writes the captions (default: use "
        "the words of the files' names)",
    )
    parser.add_argument("--prompt", help="prompt for --model")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the captions without writing them"
    )


def caption(options: argparse.Namespace) -> int:
    import sys

    from mmtune.errors import printable
    from mmtune.image.corpus import caption as image

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
            print(printable(f"{each.file}: {each.caption}"), flush=True)
        elif each.outcome == "nothing":
            print(printable(f"{each.image}: nothing to say"), flush=True)
        elif each.outcome == "failed":
            print(f"error: {each.caption}", file=sys.stderr, flush=True)
    done = "would be written" if options.dry_run else "written"
    print(
        f"{counts['new']} {done}, {counts['kept']} had one already, {counts['nothing']} without"
        + (f", {counts['failed']} can't be read" if counts["failed"] else "")
    )
    if counts["new"]:
        print(f"next: read them, and mmtune check {options.folder}")
    return ERROR if counts["failed"] else 0
