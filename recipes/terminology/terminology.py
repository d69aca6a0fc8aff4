"""Teach Whisper a list of terms, and show that the terms made the difference.

    python recipes/terminology/terminology.py [--terms terms.txt] [--key value …]

Two adapters are trained: a control, on the same sentences and voices with everyday words in the
terms' places, and then the adapter itself. Base, control and adapter transcribe the same test
sentences, of other voices. `mmtune train terminology` does the second half alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmtune.cli.console import measures_table, output
from mmtune.cli.run_commands import split_settings
from mmtune.errors import ConfigError, MmtuneError
from mmtune.runs.pipeline import RunResult, train
from mmtune.runs.recipes import load_recipe
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.system.quiet import quiet_libraries

# Real speech on which the adapter must not be worse; scored where it is there. Its training part:
# nothing here trains on it, and no setting was chosen on it.
SHARED = Path(os.environ.get("MMTUNE_SHARED", "../shared/data"))
REAL_SPEECH = SHARED / "speechocean762" / "train.jsonl"


def main() -> None:
    quiet_libraries()
    _, given = split_settings(["terminology", *sys.argv[1:]])
    if "data" in given:
        raise ConfigError(
            "--data: nothing speaks a control of recordings",
            "mmtune train terminology --data FOLDER --terms terms.txt",
        )
    if REAL_SPEECH.exists():
        given.setdefault("retention", str(REAL_SPEECH))
    given.setdefault("terms", "medical")
    config = load_recipe("terminology", given)
    terms = read_terms(find_terms(config.task.terms))
    print(f"{sum(t.seen for t in terms)} terms to learn, {sum(not t.seen for t in terms)} unseen")

    # The control hears the same voices say the same sentences about everyday things.
    control: RunResult = train(
        load_recipe(
            "terminology",
            given | {"name": f"{config.name}-control", "ordinary": "true", "test": "0"},
        )
    )
    result = train(load_recipe("terminology", given | {"control": str(control.folder)}))

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
