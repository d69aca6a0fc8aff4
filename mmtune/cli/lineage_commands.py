"""Commands: data, reproduce."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

from mmtune.data.version_log import STEPS, Step
from mmtune.errors import FINDINGS
from mmtune.system.arguments import Parser, text
from mmtune.system.display import Displayed
from mmtune.system.output import say

VERSION_HELP = (
    "data, or one of its versions: DATA@2 by its number, DATA@91cc0f by its fingerprint, "
    "DATA@now for the rows on the disk"
)


def data_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune data`."""
    actions = parser.add_subparsers(
        dest="action", metavar="log|show|diff|verify|record", required=True, parser_class=Parser
    )
    log = actions.add_parser("log", help="list the versions of data, the first one first")
    _add_data(log)
    show = actions.add_parser("show", help="count what a version holds: splits, speakers, minutes")
    show.add_argument("version", metavar="DATA[@VERSION]", help=VERSION_HELP)
    diff = actions.add_parser("diff", help="list rows that two versions don't share, and why")
    diff.add_argument("first", metavar="DATA@VERSION", help=VERSION_HELP)
    diff.add_argument(
        "second",
        nargs="?",
        default="",
        metavar="DATA@VERSION",
        help="the version to compare it with (default: the rows of the same data on the disk)",
    )
    verify = actions.add_parser(
        "verify",
        help="find rows, files and lines of the version log that were changed; exit with 1 if "
        "there are any",
    )
    _add_data(verify)
    record = actions.add_parser(
        "record", help="write a version of the rows as they are, after you have changed them"
    )
    _add_data(record)
    record.add_argument(
        "--step",
        choices=STEPS,
        help="what changed the rows (default: import for the first version, else fix)",
    )
    record.add_argument("--note", type=text, default="", help="what to say of it in the log")
    record.add_argument("--modality", help="kind of data (default: recognised from the content)")
    for each in (log, show, diff, verify):
        each.add_argument("--json", action="store_true", help="print JSON")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="manifest.jsonl, or a folder")


def data(options: argparse.Namespace) -> int:
    """Run `mmtune data`: list, show, compare, verify or write versions of data."""
    from mmtune.cli.console import show
    from mmtune.runs import data_versions as versions

    if options.action == "record":
        step = cast("Step | None", options.step)
        made = versions.record_data_version(options.data, step, options.note, options.modality)
        say(f"{made.name}, {made.step}, {made.when}")
        return 0
    found: Displayed
    intact = True
    if options.action == "log":
        found = versions.data_log(options.data)
    elif options.action == "show":
        found = versions.show_version(options.version)
    elif options.action == "diff":
        found = versions.diff_versions(options.first, options.second)
    else:
        found = verified = versions.verify_data(options.data)
        intact = verified.intact
    if options.json:
        say(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        show(found.shown())
    return 0 if intact else FINDINGS


def reproduce_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune reproduce`."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a finished run")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the new run (default: RUN_DIR-reproduced, beside the run)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def reproduce(options: argparse.Namespace) -> int:
    """Run `mmtune reproduce`: train a run again, and compare weights and figures."""
    from mmtune.cli.console import show
    from mmtune.runs.reproduce import reproduce

    found = reproduce(options.run, options.out)
    if options.json:
        say(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        show(found.shown())
    return 0 if found.equal else FINDINGS
