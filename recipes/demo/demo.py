"""Both recipes on models and data that come as Python packages: what `make demo` runs.

    python recipes/demo/demo.py [--out runs/demo] [--general-speech manifest.jsonl]

Three adapters are trained: medical terms; a control with the same sentences and voices, but
everyday words in the terms' places; and the look of OpenMoji. Repeating it resumes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from mmtune.cli.console import plain
from mmtune.cli.progress import RichReporter
from mmtune.pages.report import write_report
from mmtune.runs.pipeline import RunResult, train
from mmtune.runs.recipes import load_recipe
from mmtune.system.quiet import quiet_libraries
from mmtune.system.resources import resource

sys.path.insert(0, str(resource("recipes", "brand_style")))
from openmoji import make_brand

# Real speech that must not get worse: scored where it is there, or where it is named. Its training
# part: nothing here trains on it, and no setting was chosen on it.
REAL_SPEECH = Path("../shared/data/speechocean762/train.jsonl")
SHOWN = Console()
PROGRESS = Console(stderr=True)


def run(recipe: str, name: str, out: Path, **settings: object) -> RunResult:
    """Train `recipe` in `out`/`name`, as `mmtune train` does."""
    PROGRESS.rule(name.replace("_", " "))
    began = time.perf_counter()
    given = {"out": str(out), "name": name} | {k: str(v) for k, v in settings.items()}
    with RichReporter(PROGRESS) as reporter:
        result = train(load_recipe(recipe, given), reporter)
    PROGRESS.print(f"{time.perf_counter() - began:.0f} s")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument(
        "--general-speech",
        type=Path,
        default=REAL_SPEECH if REAL_SPEECH.exists() else None,
        metavar="MANIFEST",
        help="real speech that must not get worse",
    )
    options = parser.parse_args()
    out: Path = options.out
    quiet_libraries()

    # Minutes count here: the terms alone, without what a recipe adds so that long recordings, times
    # and silence stay right, and without the tests of those.
    quick: dict[str, object] = {"terms": "medical", "scales": [1.0], "probes": 0}
    quick |= {"joined": 0, "nonspeech": 0, "timestamps": 0}
    control = run("terminology", "control", out, ordinary="true", test="0", **quick)
    against = quick | {"control": control.folder}
    if options.general_speech is not None:
        against["retention"] = options.general_speech
    speech = run("terminology", "terminology", out, **against)
    brand = make_brand(out / "openmoji")
    few: dict[str, object] = {"scales": [0.5, 0.75, 1.0], "scale_images": 8}
    image = run("brand_style", "brand_style", out, data=brand, **few)

    report = out / "report.html"
    write_report(report, [speech.comparison, image.comparison], [speech.folder, image.folder])
    for result in (speech, image):
        plain(SHOWN, result.comparison.headline)
        if result.verdict is not None:
            name = result.folder.name.replace("_", " ")
            plain(SHOWN, f"verdict  {name}   {result.verdict.decision}: {result.verdict.summary}")
    plain(SHOWN, f"report   {report}")


if __name__ == "__main__":
    main()
