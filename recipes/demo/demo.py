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
from typing import Any

import mmtune

sys.path.insert(0, str(Path(__file__).parents[1] / "brand_style"))
from openmoji import make_brand


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR")
    parser.add_argument(
        "--general-speech", type=Path, metavar="MANIFEST", help="speech that must not get worse"
    )
    options = parser.parse_args()
    out: Path = options.out

    def run(recipe: str, name: str, **settings: Any) -> Any:
        print(f"--- {name.replace('_', ' ')}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        result = mmtune.train(recipe, out=out, name=name, progress=True, **settings)
        print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        return result

    # Minutes count here: the terms alone, without what a recipe adds so that long recordings, times
    # and silence stay right, and without the tests of those.
    quick: dict[str, Any] = {"terms": "medical", "scales": [1.0], "probes": 0}
    quick |= {"joined": 0, "nonspeech": 0, "timestamps": 0}
    control = run("terminology", "control", ordinary=True, test=0, **quick)
    against = quick | {"control": control.folder}
    if options.general_speech is not None:
        against["retention"] = options.general_speech
    speech = run("terminology", "terminology", **against)
    brand = make_brand(out / "openmoji")
    image = run("brand_style", "brand_style", data=brand, scales=[1.0])

    report = mmtune.report([speech.folder, image.folder], out / "report.html")
    for result in (speech, image):
        print(result.comparison.headline)
        if result.verdict is not None:
            name = result.folder.name.replace("_", " ")
            print(f"verdict  {name}   {result.verdict.decision}: {result.verdict.summary}")
    print(f"report   {report}")


if __name__ == "__main__":
    main()
