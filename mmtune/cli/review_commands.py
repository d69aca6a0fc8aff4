"""Command: review."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmtune.errors import ConfigError
from mmtune.system.arguments import Parser, positive, seed
from mmtune.system.output import say


def review_arguments(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="the page (default: RUN_DIR/review/review.html)",
    )
    parser.add_argument("--items", type=positive, help="number of pairs on the page (default: 40)")
    parser.add_argument(
        "--seed", type=seed, help="random seed for the order and sides of the pairs (default: 0)"
    )
    parser.add_argument(
        "--answers",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="read answers: answers.json of one or more people",
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="review_key.json of the page (default: found in the run folder)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def review(options: argparse.Namespace) -> int:
    from mmtune.cli.console import output, plain, plain_table
    from mmtune.evaluation.comparison import COMPARISON_FILE
    from mmtune.pages import preference
    from mmtune.pages.review import write_review
    from mmtune.runs import pipeline
    from mmtune.runs.modalities import play

    if options.answers:
        given = [n for n in ("out", "items", "seed") if getattr(options, n) is not None]
        if given:
            raise ConfigError(
                f"--{given[0]} has no effect with --answers, which writes no page", "leave it out"
            )
        found = preference.read_review(options.run, options.answers, options.key)
        if (options.run / COMPARISON_FILE).is_file():
            pipeline.report([options.run])
        if options.json:
            say(found.model_dump_json(indent=2))
            return 0
        console = output()
        plain(console, found.headline)
        console.print(plain_table(found.table))
        plain(console, f"review   {options.run / preference.RESULT_FILE}")
        return 0
    if options.key is not None:
        raise ConfigError(
            "--key has no effect without --answers", "give --answers, or leave --key out"
        )
    page = write_review(
        options.run,
        options.out,
        items=40 if options.items is None else options.items,
        seed=options.seed or 0,
        play=play,
    )
    if options.json:
        import json

        say(json.dumps({"page": str(page.path), "key": str(page.key), "items": page.items}))
        return 0
    say(page.path)
    same = f"; {page.same} pairs with equal sides are left out" if page.same else ""
    say(f"{page.items} pairs{same}")
    say(f"don't show {page.key} to the reviewers: it tells which side is the adapter")
    say(f"next: mmtune review {options.run} --answers answers.json")
    return 0
