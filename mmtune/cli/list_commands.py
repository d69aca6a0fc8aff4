"""Command: runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmtune.system.arguments import Parser
from mmtune.system.output import say


def runs_arguments(parser: Parser) -> None:
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="FOLDER",
        help="folder that holds run folders (default: runs)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def runs(options: argparse.Namespace) -> int:
    """Run `mmtune runs`: list runs with the settings that differ, figures and verdicts."""
    from mmtune.cli.console import show
    from mmtune.runs import public_functions as public

    found = public.list_runs(options.folder)
    if options.json:
        import json

        say(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return 0
    show(found.shown())
    return 0
