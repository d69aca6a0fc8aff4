"""Teach Whisper the terms of a field, and show how much the terms themselves gained.

    python recipes/terminology/terminology.py --terms terms.txt
    python recipes/terminology/terminology.py --terms terms.txt --data ./recordings

Without recordings, a synthesizer speaks sentences with the terms. An adapter can then learn the
synthesizer instead of the terms, so a control is trained first: on the same sentences and voices,
with everyday words in the terms' places. What the adapter gains beyond the control is due to the
terms. With recordings there is no control, and one adapter is trained.
"""

from __future__ import annotations

import argparse
import sys

import mmtune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--terms", default="medical", metavar="FILE", help="one term on each line")
    parser.add_argument("--data", metavar="PATH", help="recordings: a folder, or a manifest.jsonl")
    parser.add_argument("--base", default="starter:whisper-tiny.en", help="Whisper to adapt")
    parser.add_argument(
        "--general-speech", metavar="PATH", help="other recordings, on which it must not get worse"
    )
    parser.add_argument("--name", default="terminology", help="of the run's folder below runs/")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings, such as epochs=5"
    )
    options = parser.parse_args()

    settings = {"terms": options.terms, "base": options.base, "name": options.name}
    settings |= dict(pair.split("=", 1) for pair in options.set)
    if options.general_speech:
        settings["retention"] = options.general_speech

    if options.data:
        settings["data"] = options.data
    else:
        # `ordinary`: everyday words in the terms' places. `test=0`: only the adapter is tested.
        control_name = f"{options.name}-control"
        control_settings = settings | {"name": control_name, "ordinary": True, "test": 0}
        control = mmtune.train("terminology", **control_settings)
        settings["control"] = control.folder

    print(mmtune.train("terminology", **settings))


if __name__ == "__main__":
    try:
        main()
    except mmtune.MmtuneError as error:
        sys.exit(f"error: {error}")
