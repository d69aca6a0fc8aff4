"""Feed mutated files to mmtune's parsers: `make fuzz`.

    python -m tests.fuzz [--inputs N] [--seed S] [--out DIR] [--only TARGET] [--planted | --replay]

Exit code: 0 if each parser returned or raised an `MmtuneError` for each input, within its limits,
and its branches were covered; with --planted: if each planted bug was found; with --replay: if no
input that failed once fails again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz import planted
from tests.fuzz.inputs import Judge, Verdict, make, packed, quiet, unpacked, write
from tests.fuzz.targets import TARGETS, Target, seeds_of

ROOT = Path(__file__).parents[2]
HARD = 20.0  # seconds after which a process that Python can't interrupt is killed
LEAST = 0.85  # share of a parser's branches
MOST_PLANTED = 8000  # inputs in which a planted bug must be found

SEEDS = Path(__file__).with_name("seeds")  # inputs that failed once

Job = tuple[str, int]  # target, number


def shares(inputs: int, targets: Sequence[Target]) -> list[Job]:
    """Share the inputs among the targets by their weights."""
    whole = sum(each.share for each in targets)
    return [
        (each.name, number)
        for each in targets
        for number in range(round(inputs * each.share / whole))
    ]


def _work(
    jobs: Sequence[Job], seed: int, out: Path, said: Connection, covered: bool, bug: str
) -> None:
    measure: Any = None
    if covered:
        import coverage

        files = sorted({str(ROOT / "mmtune" / m.partition(":")[0]) for t in TARGETS.values()
                        for m in t.modules})  # fmt: skip
        measure = coverage.Coverage(
            data_file=str(out / "coverage"), data_suffix=True, branch=True, include=files,
            config_file=False,
        )  # fmt: skip
        measure.start()
    if bug:
        planted.BUGS[bug].plant()
    judge, saved = Judge(out / "input"), time.monotonic()
    with quiet():
        for target, number in jobs:
            said.send(("begin", target, number, None))
            files = make(target, number, seed) if seed >= 0 else kept()[number][1]
            verdict = judge.run(target, files)
            said.send(("end", target, number, verdict))
            if measure is not None and (number % 100 == 0 or time.monotonic() > saved + 5):
                measure.save()  # this process may be killed by one of the next inputs
                saved = time.monotonic()
    if measure is not None:
        measure.stop()
        measure.save()
    said.send(("done", "", 0, None))


def _prepare(targets: Iterable[str], out: Path) -> None:
    """Parse the seeds: what a parser imports at its first use is no time of an input."""
    os.environ["TMPDIR"] = str(out / "tmp")
    tempfile.tempdir = None  # it keeps the folder that it found first
    (out / "tmp").mkdir(parents=True, exist_ok=True)
    os.environ["MMTUNE_CACHE"] = os.environ["HF_HOME"] = str(out / "tmp" / "cache")
    folder = out / "warm"
    for target in targets:
        for files in seeds_of(target):
            write(files, folder)
            with contextlib.suppress(Exception), quiet():
                TARGETS[target].call(folder)


def run(
    jobs: list[Job], seed: int, out: Path, *, covered: bool = False, bug: str = ""
) -> Iterator[tuple[Job, Verdict]]:
    """Run inputs in a process of their own; a new one follows where one hangs or dies."""
    context = multiprocessing.get_context("fork")
    while jobs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(jobs, seed, out, theirs, covered, bug))
        process.start()
        theirs.close()
        now: Job | None = None
        done = 0
        try:
            while True:
                if not ours.poll(HARD + 60 * (now is None)):
                    process.kill()
                    if now is not None:
                        yield (
                            now,
                            Verdict("no end, and Python can't interrupt it", "", seconds=HARD),
                        )
                        done += 1
                    break
                what, target, number, verdict = ours.recv()
                if what == "done":
                    jobs = []
                    break
                now = (target, number)
                if what == "end":
                    yield now, verdict
                    done += 1
        except EOFError:
            process.join()
            if now is None:
                raise RuntimeError(f"the process ended with {process.exitcode}") from None
            yield now, Verdict(f"the process died: exit code {process.exitcode}")
            done += 1
        finally:
            # Only a process that said "done" still has its coverage to write.
            process.join(timeout=0 if jobs else 10)
            if process.is_alive():
                process.kill()
            ours.close()
        jobs = jobs[done:]


def kept() -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """The inputs that failed once, with what is known of each."""
    found = []
    for path in sorted(SEEDS.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        found.append((values | {"name": path.stem}, unpacked(values)))
    return found


def replay(out: Path) -> tuple[str, bool]:
    """Parse again what failed once."""
    inputs = kept()
    _prepare({values["target"] for values, _ in inputs}, out)
    lines = []
    jobs = [(values["target"], number) for number, (values, _) in enumerate(inputs)]
    for (_, number), verdict in run(jobs, -1, out):
        if verdict.finding:
            name = inputs[number][0]["name"]
            lines.append(f"FAILED {name}: {verdict.finding} {verdict.where}")
    lines.append(f"{len(inputs)} inputs, {len(lines)} failed")
    return "\n".join(lines) + "\n", len(lines) == 1


def coverage_of(out: Path) -> dict[str, dict[str, float]]:
    """The share of branches that were taken, by target and module."""
    import coverage

    measure = coverage.Coverage(data_file=str(out / "coverage"), branch=True, config_file=False)
    measure.combine([str(out)])
    report = out / "coverage.json"
    measure.json_report(outfile=str(report), pretty_print=False)
    files = json.loads(report.read_text())["files"]
    found: dict[str, dict[str, float]] = {}
    for target in TARGETS.values():
        found[target.name] = {}
        for module in target.modules:
            path, _, names = module.partition(":")
            facts = next((f for n, f in files.items() if n.endswith("mmtune/" + path)), None)
            found[target.name][path] = _share(facts, names.split(",") if names else [])
    return found


def _share(facts: dict[str, Any] | None, names: Sequence[str]) -> float:
    if facts is None:
        return 0.0
    # A parser that has moved counts as not reached, so that its row here is mended.
    known = facts["functions"]
    if any(name not in known for name in names):
        return 0.0
    parts = [known[name] for name in names] if names else [facts]
    taken = sum(part["summary"]["covered_branches"] for part in parts)
    every = sum(part["summary"]["num_branches"] for part in parts)
    return taken / every if every else 1.0


def fuzz(inputs: int, seed: int, out: Path, only: Sequence[str] = ()) -> tuple[str, bool]:
    """Run the inputs; return the page of results, and whether all is well."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("coverage*"):
        old.unlink()
    targets = [t for t in TARGETS.values() if (not only or t.name in only) and seeds_of(t.name)]
    _prepare((each.name for each in targets), out)
    begun = time.monotonic()
    counts: dict[str, Counter[str]] = {each.name: Counter() for each in targets}
    slowest: tuple[float, Job] = (0.0, ("", 0))
    largest: tuple[int, Job] = (0, ("", 0))
    findings: dict[tuple[str, str, str], list[Job]] = {}
    for job, verdict in run(shares(inputs, targets), seed, out, covered=True):
        counts[job[0]]["inputs"] += 1
        counts[job[0]]["refused"] += verdict.refused
        counts[job[0]]["milliseconds"] += round(1000 * verdict.seconds)
        slowest = max(slowest, (verdict.seconds, job))
        largest = max(largest, (verdict.peak, job))
        if verdict.finding:
            counts[job[0]]["findings"] += 1
            key = (job[0], verdict.finding.split(" /")[0], verdict.where.partition(": ")[0])
            if key not in findings:
                place = out / "found" / f"{job[0]}-{job[1]}.json".replace(" ", "-")
                place.parent.mkdir(exist_ok=True)
                values = packed(job[0], make(*job, seed)) | {
                    "finding": verdict.finding, "where": verdict.where,
                }  # fmt: skip
                place.write_text(json.dumps(values, ensure_ascii=False, indent=1))
            findings.setdefault(key, []).append(job)
    taken = coverage_of(out)
    lines = [f"seed {seed}, {sum(c['inputs'] for c in counts.values()):,} inputs, "
             f"{time.monotonic() - begun:.0f} s"]  # fmt: skip
    good = not findings
    for each in targets:
        count = counts[each.name]
        shown = ", ".join(f"{module} {share:.0%}" for module, share in taken[each.name].items())
        lines.append(
            f"{each.name:<14} {count['inputs']:>6} inputs {count['refused']:>6} refused "
            f"{count['findings']:>4} findings {count['milliseconds'] / 1000:>6.1f} s   "
            f"branches: {shown}"
        )
        good &= all(share >= LEAST for share in taken[each.name].values())
    lines.append(f"slowest: {slowest[0]:.2f} s ({slowest[1][0]} {slowest[1][1]})")
    lines.append(f"most memory: {largest[0] / 2**20:.0f} MiB ({largest[1][0]} {largest[1][1]})")
    lines += [f"FINDING {' | '.join(key)}: {len(jobs)}, first {jobs[0][1]}"
              for key, jobs in findings.items()]  # fmt: skip
    return "\n".join(lines) + "\n", good


def find_planted(seed: int, out: Path, only: Sequence[str] = ()) -> tuple[str, bool]:
    """Plant each bug alone, and count the inputs until it is found."""
    lines, found = [], 0
    bugs = {n: bug for n, bug in planted.BUGS.items() if not only or bug.target in only}
    _prepare({bug.target for bug in bugs.values()}, out)
    for name, bug in bugs.items():
        known = 0
        for (_, number), verdict in run(
            [(bug.target, number) for number in range(MOST_PLANTED)], seed, out, bug=name
        ):
            if verdict.finding and bug.sign in f"{verdict.finding} {verdict.where}":
                known = number + 1
                break
        found += bool(known)
        lines.append(f"{name:<60} {f'found by input {known}' if known else 'NOT FOUND'}")
        print(lines[-1], flush=True)
    lines.append(f"planted bugs found: {found} of {len(bugs)}")
    print(lines[-1], flush=True)
    return "\n".join(lines) + "\n", found == len(bugs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), metavar="DIR")
    parser.add_argument("--only", action="append", choices=list(TARGETS), default=[])
    parser.add_argument("--planted", action="store_true", help="look for planted bugs instead")
    parser.add_argument("--replay", action="store_true", help="parse again what failed once")
    options = parser.parse_args()
    out = options.out.resolve()
    if options.replay:
        text, good = replay(out)
    elif options.planted:
        text, good = find_planted(options.seed, out, options.only)
    else:
        text, good = fuzz(options.inputs, options.seed, out, options.only)
    out.mkdir(parents=True, exist_ok=True)
    name = "planted" if options.planted else "replay" if options.replay else "fuzz"
    (out / f"{name}.txt").write_text(text)
    if not options.planted:
        print(text, end="")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
