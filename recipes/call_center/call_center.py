"""From stereo calls, a table of notes and a list of product names to an adapter and its verdict.

    python recipes/call_center/call_center.py --notes calls/notes.csv --terms products.txt \
        --held-out held-out/notes.csv --base starter:whisper-base

The notes are a table with a column of files and a column of transcripts, in which each line or
sentence begins with its speaker ("Agent: …"). The held-out calls are heard from beginning to end,
before and after; they must not be among the others.
"""

from __future__ import annotations

import argparse
import sys

import mmtune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--notes", required=True, metavar="PATH", help="calls to learn from")
    parser.add_argument("--terms", required=True, metavar="FILE", help="product names, one a line")
    parser.add_argument("--held-out", metavar="PATH", help="other calls, to measure with")
    parser.add_argument("--speakers", default="agent=0,customer=1", help="channels of the speakers")
    parser.add_argument("--language", default="en", help="language of the calls")
    parser.add_argument("--base", default="starter:whisper-tiny.en", help="Whisper model to adapt")
    parser.add_argument("--name", default="call_center", help="name of the run folder below runs/")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings, such as epochs=5"
    )
    options = parser.parse_args()

    corpus = mmtune.import_data(
        options.notes,
        f"{options.name}-corpus",
        language=options.language,
        speakers=options.speakers,
        align=True,
        base=options.base,
    )
    print(corpus)
    mmtune.check(corpus.folder, "speech", terms=options.terms, strict=True)

    settings = {"data": corpus.folder, "terms": options.terms, "base": options.base}
    settings |= {"name": options.name, "language": options.language}
    settings |= dict(pair.split("=", 1) for pair in options.set)
    if options.held_out:
        settings |= {"calls": options.held_out, "call_speakers": options.speakers}
    print(mmtune.train("call_center", **settings))


if __name__ == "__main__":
    try:
        main()
    except mmtune.MmtuneError as error:
        sys.exit(f"error: {error}")
