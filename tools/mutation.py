"""Measure how many mutants of the package the tests notice: a seeded, stratified sample.

    python tools/mutation.py -n 400 --seed 0    # goes on where an earlier run has ended
    python tools/mutation.py --again            # the survivors once more, after tests were added
    python tools/mutation.py --only 'Features.get: [found'    # its tests' output: mutant.log

Each test file runs once with coverage, and again only if it has changed. A mutant is tried with
the tests that execute its place, the fastest first, until one fails.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mutants import Mutant, in_tree, mutants_of
from mutation_runs import choose, copy_tree, import_libraries, measured, tried, written

ROOT = Path(__file__).resolve().parents[1]
SPEECH, IMAGE = "mmtune/speech", "mmtune/image"
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "training": ("mmtune/training/*.py",),
    "data": ("mmtune/data/*.py",),
    "prefix": ("mmtune/prefix/*.py",),
    "metrics": ("mmtune/metrics/**/*.py",),
    "evaluation": ("mmtune/evaluation/*.py",),
    "speech": (
        f"{SPEECH}/whisper/labels.py", f"{SPEECH}/whisper/decode.py",
        f"{SPEECH}/whisper/fallback.py", f"{SPEECH}/whisper/loss.py",
        f"{SPEECH}/corpus/term_list.py", f"{SPEECH}/transcription/retrieve.py",
        f"{SPEECH}/transcription/splice.py",
    ),
    "image": (f"{IMAGE}/diffusion/objective.py", f"{IMAGE}/diffusion/denoiser.py"),
}  # fmt: skip
# Where the packages are tested; others execute them too, and take longer.
TESTS = (
    "tests/metrics/test_*.py", "tests/data/test_*.py", "tests/prefix/test_*.py",
    "tests/training/test_*.py", "tests/speech/whisper/test_*.py", "tests/speech/test_*.py",
    "tests/speech/corpus/test_term_list.py", "tests/speech/corpus/test_check_transcript.py",
    "tests/speech/transcription/test_retrieve.py", "tests/speech/transcription/test_splice.py",
    "tests/image/diffusion/test_objective.py", "tests/image/test_task.py",
    "tests/evaluation/test_*.py", "tests/speech/evaluation/test_*.py",
    "tests/runs/test_choose_checkpoint.py", "tests/image/evaluation/test_*.py",
    "tests/image/diffusion/test_families.py", "tests/conformance/test_*.py",
)  # fmt: skip
EQUIVALENT = ROOT / "tools" / "equivalent_mutants.yaml"


def sample(mutants: Mapping[str, Sequence[Mutant]], count: int, seed: int) -> list[Mutant]:
    """Draw `count` mutants, of each package as many as its share of all.

    The packages are mixed evenly, so the first mutants of the sample are such a sample too.
    """
    total = sum(map(len, mutants.values()))
    placed: list[tuple[float, str, Mutant]] = []
    for package, some in sorted(mutants.items()):
        drawn = list(some)
        random.Random(f"{seed}|{package}").shuffle(drawn)
        wanted = round(count * len(some) / total)
        placed += [((i + 0.5) / wanted, package, m) for i, m in enumerate(drawn[:wanted])]
    return [mutant for _, _, mutant in sorted(placed, key=lambda each: each[:2])]


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927); 0 to 1 without any."""
    if not count:
        return 0.0, 1.0
    share, over = hits / count, z * z / count
    middle = (share + over / 2) / (1 + over)
    half = z / (1 + over) * math.sqrt(share * (1 - share) / count + over / (4 * count))
    return middle - half, middle + half


def table(results: Mapping[str, Mapping[str, Any]], equivalent: Mapping[str, str]) -> list[str]:
    """Format the killed and survived mutants of each package, and of all together."""
    lines = [f"{'package':<12}{'mutants':>8}{'killed':>8}{'of these by time':>18}"
             f"{'survived':>10}{'equivalent':>12}   killed, 95 %"]  # fmt: skip
    for package in (*PACKAGES, "all"):
        own = [r for r in results.values() if package in ("all", r["package"])]
        alike = sum(r["outcome"] == "survived" and r["mutant"] in equivalent for r in own)
        slow = sum(r["outcome"] == "timeout" for r in own)
        killed = slow + sum(r["outcome"] == "killed" for r in own)
        count = len(own) - alike
        low, high = wilson(killed, count)
        share = f"{killed / count:.1%} [{low:.1%}, {high:.1%}]" if count else "-"
        lines.append(f"{package:<12}{len(own):>8}{killed:>8}{slow:>18}{count - killed:>10}"
                     f"{alike:>12}   {share}")  # fmt: skip
    return lines


def read_results(path: Path, which: int = -1) -> dict[str, dict[str, Any]]:
    """Read one result of each mutant: the newest, or with 0 the first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        entry = json.loads(line)
        found.setdefault(entry["mutant"], []).append(entry)
    return {name: entries[which] for name, entries in found.items()}


def main() -> int:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-n", type=int, default=400, help="mutants in the sample (400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (0)")
    parser.add_argument("--minutes", type=float, help="begin no further mutant after this time")
    parser.add_argument(
        "--seconds", type=float, default=20, help="tests of one mutant, in seconds together (20)"
    )
    parser.add_argument(
        "--file-seconds",
        type=int,
        default=60,
        help="tests of one file that are known, in seconds together (60)",
    )
    parser.add_argument("--again", action="store_true", help="only the survivors of earlier runs")
    parser.add_argument(
        "--only", help="only the mutants whose name contains this, of all there are"
    )
    parser.add_argument(
        "--tests", nargs="+", default=TESTS, metavar="PATTERN", help="files of tests, in order"
    )
    parser.add_argument("--report", action="store_true", help="only print the stored results")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mutation")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    results = folder / f"seed-{asked.seed}.jsonl"
    equivalent = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    if not asked.report:
        _run(asked, folder, results)
    found, first = read_results(results), read_results(results, 0)
    if first != found:
        print("with the tests of the first run:")
        print("\n".join([*table(first, equivalent), "with the tests of the newest:"]))
    print("\n".join(table(found, equivalent)))
    for entry in found.values():
        if entry["outcome"] == "survived" and entry["mutant"] not in equivalent:
            print(f"survived {entry['tests']} tests: {entry['mutant']} (line {entry['line']})")
    return 0


def _run(asked: argparse.Namespace, folder: Path, results: Path) -> None:
    tree = folder / "tree"
    (folder / "coverage").mkdir(parents=True, exist_ok=True)
    copy_tree(ROOT, tree)
    mutants = {
        package: [m for file in in_tree(tree, patterns) for m in mutants_of(file, tree)]
        for package, patterns in PACKAGES.items()
    }
    package_of = {m.name: package for package, some in mutants.items() for m in some}
    known = read_results(results)
    if asked.only:
        wanted = [m for some in mutants.values() for m in some if asked.only in m.name]
    elif asked.again:
        alive = {name for name, entry in known.items() if entry["outcome"] == "survived"}
        wanted = [m for some in mutants.values() for m in some if m.name in alive]
    else:
        wanted = [m for m in sample(mutants, asked.n, asked.seed) if m.name not in known]
    print(f"{len(package_of):,} mutants; {len(wanted)} to try", flush=True)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its forks end too
    # Real speech lies beside the repository, where tests/speech/real.py looks for it.
    real, linked = ROOT.parent / "shared", folder / "shared"
    if real.is_dir() and not linked.exists():
        linked.symlink_to(real)
    import_libraries()
    tests = []
    for file in (file for pattern in asked.tests for file in in_tree(tree, (pattern,))):
        tests += measured(tree, file, folder / "coverage", asked.file_seconds)
        print(f"{time.monotonic() - began:6.0f} s  {file}: {len(tests)} tests so far", flush=True)
    for number, mutant in enumerate(wanted, start=1):
        if asked.minutes is not None and time.monotonic() - began > 60 * asked.minutes:
            print(f"stopped after {number - 1} of {len(wanted)}")
            break
        chosen, over = choose(mutant, tests, asked.seconds)
        start = time.monotonic()
        try:
            with written(mutant, tree):
                found = tried(tree, chosen, folder / "mutant.log")
        except SyntaxError:
            continue
        killed = "killed" if found.get("killed") else "survived"
        outcome = found.get("ended", killed)
        entry = {
            "mutant": mutant.name, "package": package_of[mutant.name], "line": mutant.first,
            "outcome": "killed" if outcome.startswith("crash") else outcome,
            "by": found.get("killed"), "why": found.get("why", outcome), "tests": len(chosen),
            "left_out": over, "seconds": round(time.monotonic() - start, 1),
        }  # fmt: skip
        if not asked.only:
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        print(f"{number:>4} {entry['outcome']:<9}{entry['seconds']:>6.1f} s  {mutant.name}"
              f"  {entry['why'] if killed == 'killed' else ''}", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
