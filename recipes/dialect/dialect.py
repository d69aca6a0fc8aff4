"""Teach Whisper a dialect, an accent or a way of speaking, and show what it gained.

    python recipes/dialect/dialect.py --data ./recordings --base starter:whisper-base

One adapter is trained, on the decoder and the top of the encoder. `--compare-decoder` first trains
another on the decoder alone and reports both: it takes about twice as long, and shows whether
adapting the encoder is worth its time on your recordings.
"""

from __future__ import annotations

import argparse
import sys

import mmtune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="recordings: a folder, or a manifest.jsonl"
    )
    parser.add_argument("--base", default="starter:whisper-tiny.en", help="Whisper to adapt")
    parser.add_argument(
        "--general-speech", metavar="PATH", help="other recordings, on which it must not get worse"
    )
    parser.add_argument("--name", default="dialect", help="of the run's folder below runs/")
    parser.add_argument(
        "--compare-decoder", action="store_true", help="also train an adapter on the decoder alone"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings, such as epochs=5"
    )
    options = parser.parse_args()

    settings = {"data": options.data, "base": options.base, "name": options.name}
    settings |= dict(pair.split("=", 1) for pair in options.set)
    if options.general_speech:
        settings["retention"] = options.general_speech

    if options.compare_decoder:
        decoder_settings = settings | {"name": f"{options.name}-decoder", "encoder_layers": 0}
        decoder = mmtune.train("dialect", **decoder_settings)
        settings["control"] = decoder.folder

    print(mmtune.train("dialect", **settings))


if __name__ == "__main__":
    try:
        main()
    except mmtune.MmtuneError as error:
        sys.exit(f"error: {error}")
