"""Commands for private words: redact."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmtune.system.arguments import Parser, in_help
from mmtune.system.output import say


def redact_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune redact`."""
    from mmtune.privacy.private_span import KINDS
    from mmtune.runs.modalities import modality_names

    parser.add_argument("path", type=Path, help="manifest.jsonl, or a folder of files")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to create")
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="text file of names to replace, one on each line, in any case and spelling",
    )
    parser.add_argument(
        "--name-model",
        metavar="NAME",
        help="installed spaCy model that finds further names, such as en_core_web_md (default: "
        "none; then only names of --names are found)",
    )
    parser.add_argument(
        "--region",
        metavar="CODE,CODE",
        default="",
        help="countries of phone numbers without a country's code, such as US,GB (default: those "
        "of each row's language)",
    )
    parser.add_argument(
        "--account-words",
        metavar="WORD,WORD",
        default="",
        help="further words before account and record numbers, such as locker,badge number",
    )
    parser.add_argument(
        "--kinds",
        metavar="KIND,KIND",
        default="",
        help=f"what to replace: {in_help(', '.join(KINDS))} (default: all)",
    )
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="language of rows that name none: en, de, fr or es (default: they are read in all)",
    )
    parser.add_argument(
        "--texts-only",
        action="store_true",
        help="write the texts without recordings or pictures; needed for data with recordings, "
        "because redact doesn't mute them",
    )
    parser.add_argument(
        "--modality",
        help=f"{in_help(' or '.join(modality_names()))} (default: recognised from the content)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def redact(options: argparse.Namespace) -> int:
    """Run `mmtune redact`: write a copy of a dataset without private words in its texts."""
    import json

    from mmtune.privacy.private_span import KINDS
    from mmtune.runs.redaction import redact as redact_data

    result = redact_data(
        options.path,
        options.to,
        names=options.names or (),
        name_model=options.name_model,
        regions=_listed(options.region),
        account_words=_listed(options.account_words),
        kinds=_listed(options.kinds) or KINDS,
        language=options.language,
        texts_only=options.texts_only,
        modality=options.modality,
    )
    say(json.dumps(result.to_dict(), indent=2) if options.json else str(result))
    return 0


def _listed(values: str) -> list[str]:
    return [value.strip() for value in values.split(",") if value.strip()]
