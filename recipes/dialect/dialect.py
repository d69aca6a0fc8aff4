"""Teach Whisper a dialect or an accent, and show what adapting the encoder adds.

    python recipes/dialect/dialect.py --data ./recordings [--base BASE] [--key value …]

Two adapters are trained: one on the decoder alone, and then one that reaches into the encoder,
with the first as its control. `mmtune train dialect` does the second half alone.
"""

from __future__ import annotations

import sys

from mmtune.cli.console import measures_table, output
from mmtune.cli.run_commands import split_settings
from mmtune.errors import ConfigError, MmtuneError
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import load_recipe
from mmtune.system.quiet import quiet_libraries


def main() -> None:
    quiet_libraries()
    _, given = split_settings(["dialect", *sys.argv[1:]])
    if "data" not in given:
        raise ConfigError("no recordings are named", "give --data FOLDER or --data manifest.jsonl")
    config = load_recipe("dialect", given)
    shallow = given | {"name": f"{config.name}-decoder", "encoder_layers": "0"}
    decoder = train(load_recipe("dialect", shallow))
    result = train(load_recipe("dialect", given | {"control": str(decoder.folder)}))

    print("control: the decoder alone")
    output().print(measures_table(result.comparison.measures))
    print(result.comparison.headline)
    print(f"adapter {result.folder / 'adapter'}   report {result.folder / 'report.html'}")
    for line in result.verdict.lines() if result.verdict is not None else ():
        print(line)


if __name__ == "__main__":
    try:
        main()
    except MmtuneError as error:
        sys.exit(f"error: {error}")
