"""Run the attack and write its table: fault by command, with what came of it.

    python -m tests.faults.table --out FILE [--part small|sample|all] [--budget SECONDS] [--seed N]

Results are appended to FILE.jsonl; a case that is there isn't run again, so that the table can be
made in several sittings. Exit code: 0 if nothing was lost and every error was an error.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import oracle
from tests.faults.injection import KINDS, Fault, Outcome, Server, library
from tests.faults.scenes import EVENTS, Scene, commands, stage_of, targets, writers

FAILING = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
PER_COMMAND = {"small": 0, "sample": 6, "all": 30}  # seeded faults of each command
PER_STAGE = {"small": 0, "sample": 1, "all": 2}  # kills in each stage of each command
EVERY = {"small": ("ENOSPC",), "sample": ("ENOSPC", "torn"), "all": tuple(KINDS)}
MODULES = (
    "torch", "transformers", "diffusers", "peft", "accelerate", "mmtune.runs.public_functions",
    "mmtune.cli.run_commands", "mmtune.cli.data_commands", "mmtune.cli.adapter_commands",
    "mmtune.training.loop", "tests.faults.writers", "tests.training.toy",
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A scene without faults.

    Attributes:
        template: the folder before the command.
        before: its files.
        after: the folder after the command (`oracle.tree`).
        volatile: files that two runs without faults write differently.
        code: exit code.
        trace: the calls that write.
    """

    template: Path
    before: Mapping[str, bytes]
    after: Mapping[str, str]
    volatile: set[str]
    code: int
    trace: Sequence[tuple[str, str, str]]


class Attack:
    """Runs scenes with faults, always in the same folder, because paths are part of results."""

    def __init__(self, work: Path, modules: Sequence[str] = MODULES) -> None:
        self.work = work
        self.place = work / "place"
        self.server = Server(modules)
        self._known: dict[str, Known] = {}

    def close(self) -> None:
        self.server.close()

    def run(self, words: Sequence[str], fault: Fault | None = None, **more: Any) -> Outcome:
        environment = {
            "MMTUNE_CACHE": str(self.place / "cache"), "TMPDIR": str(self.place / "tmp"),
            "HOME": str(self.work / "home"),
        }  # fmt: skip
        return self.server.run(words, self.place, fault, environment=environment, **more)

    def known(self, scene: Scene) -> Known:
        """Prepare a scene and run it twice without a fault."""
        if scene.key not in self._known:
            self._known[scene.key] = self._learn(scene)
        return self._known[scene.key]

    def _learn(self, scene: Scene) -> Known:
        self._clear()
        scene.start(self.place)
        (self.place / "tmp").mkdir(exist_ok=True)
        for words, fault in scene.earlier:
            done = self.run(words, fault, modules=self.work / "modules")
            if not fault.event and done.code != 0:
                raise RuntimeError(f"{scene.key}: {words} ended with {done.code}: {done.err}")
            self.server.learn(self.work / "modules")
        if scene.prepare is not None:
            scene.prepare(self.place)
        template = self.work / "templates" / scene.key.replace("/", "-")
        shutil.rmtree(template, ignore_errors=True)
        shutil.copytree(self.place, template, symlinks=True)
        before = oracle.contents(template)
        trees: list[dict[str, str]] = []
        first: Outcome | None = None
        for number in range(2):
            self.restore(template)
            done = self.run(scene.words, trace=number == 0, modules=self.work / "modules")
            self.server.learn(self.work / "modules")
            first = first or done
            if done.code not in (0, 1) or "Traceback" in done.err:
                raise RuntimeError(f"{scene.key}: without a fault {done.code}: {done.err}")
            if left := oracle.partials(self.place):
                raise RuntimeError(f"{scene.key}: without a fault {left} is left over")
            trees.append(oracle.tree(self.place))
        assert first is not None
        assert first.code is not None
        volatile = oracle.differing(*trees)
        return Known(template, before, trees[0], volatile, first.code, first.trace)

    def restore(self, template: Path) -> None:
        self._clear()
        shutil.copytree(template, self.place, symlinks=True)

    def _clear(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    def case(self, scene: Scene, fault: Fault) -> dict[str, Any]:
        """Harm a scene, judge what is left, repeat it without a fault and judge the end."""
        known = self.known(scene)
        self.restore(known.template)
        begun = time.monotonic()
        done = self.run(scene.words, fault)
        reached = done.calls >= fault.at if not fault.event else done.code == -9
        judgement = oracle.after_fault(
            done, fault, known.before, self.place, known.after, known.volatile, scene.gone,
            known.code, scene.told,
        )  # fmt: skip
        found, killed = [judgement], oracle.partials(self.place)
        again = self.run(scene.words)
        # A command that refuses to replace what it wrote before the fault is repeated elsewhere.
        finished = again.code == 2 and "exists already" in again.err
        if finished:
            again = Outcome(known.code, again.out, again.err, again.calls)
        found.append(
            oracle.after_repeat(again, self.place, known.after, known.volatile, known.code, killed)
        )
        kinds = [each.kind for each in found if each.kind != "ok"] or ["ok"]
        call = known.trace[fault.at - 1] if not fault.event and fault.at <= len(known.trace) else ()
        return {
            "scene": scene.key, "fault": str(fault), "kind": fault.kind or "kill at a call",
            "outcome": " + ".join(dict.fromkeys(kinds)), "code": done.code, "reached": reached,
            "detail": " | ".join(each.detail for each in found if each.detail)[:600],
            "call": list(call), "seconds": round(time.monotonic() - begun, 2),
        }  # fmt: skip


def faults_of(scene: Scene, known: Known, part: str, seed: int) -> Iterator[Fault]:
    """The faults of a scene: every call of a writer; stages and seeded calls of a command."""
    calls = len(known.trace)
    if not scene.modality:
        for at, (_, _, functions) in enumerate(known.trace, start=1):
            # What the table of writers itself prepares is no writer of mmtune.
            if not functions.startswith("cli/__init__"):
                yield from (Fault(kind, at) for kind in EVERY[part])
        return
    chance = random.Random(f"{seed} {scene.key}")
    found: dict[str, Fault] = {}
    kinds = [*FAILING, "kill", "torn"]
    for i in range(PER_COMMAND[part] if calls else 0):
        fault = Fault(kinds[i % len(kinds)], chance.randint(1, calls))
        found.setdefault(str(fault), fault)
    stages: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(targets(known.trace), start=1):
        stages[stage_of(path)].append(number)
    for numbers in stages.values():
        for i in range(min(PER_STAGE[part], len(numbers))):
            fault = Fault("torn" if i % 2 else "kill", chance.choice(numbers))
            found.setdefault(str(fault), fault)
    if scene.name == "train" and PER_STAGE[part]:
        for events in EVENTS.values():
            for event in events:
                fault = Fault(at=chance.randint(1, 2), event=event)
                found.setdefault(str(fault), fault)
    yield from found.values()


def attack(
    out: Path,
    part: str,
    budget: float,
    seed: int,
    scenes: Iterable[Scene] | None = None,
    modules: Sequence[str] = MODULES,
) -> list[dict[str, Any]]:
    """Run what isn't in FILE.jsonl yet, as far as the time goes; write the table; return it all."""
    end = time.monotonic() + budget
    store = out.with_name(out.name + ".jsonl")
    results = (
        [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    )
    done = {(each["scene"], each["fault"]) for each in results}
    chosen = list(scenes) if scenes is not None else [*writers(), *commands()]
    work = Path(tempfile.mkdtemp(prefix="attack-")).resolve()
    runner = Attack(work, modules)
    waiting: list[tuple[Scene, list[Fault]]] = []
    covered: Counter[str] = Counter()
    try:
        for scene in chosen:
            if time.monotonic() > end:
                break
            try:
                known = runner.known(scene)
            except RuntimeError as error:
                results.append(_broken(scene, error))
                continue
            covered.update(function for _, _, function in known.trace)
            todo = [
                f for f in faults_of(scene, known, part, seed) if (scene.key, str(f)) not in done
            ]
            waiting.append((scene, todo))
            if not scene.modality:
                _run(runner, waiting.pop(), end, store, results)
        # A case of each command in turn, so that little time still shows all commands.
        for number in range(max((len(todo) for _, todo in waiting), default=0)):
            for scene, todo in waiting:
                if number < len(todo):
                    _run(runner, (scene, todo[number : number + 1]), end, store, results)
    finally:
        runner.close()
        shutil.rmtree(work, ignore_errors=True)
    complete = time.monotonic() <= end
    out.write_text(page(results, covered, part, seed, complete), encoding="utf-8")
    return results


def _run(
    runner: Attack, part: tuple[Scene, list[Fault]], end: float, store: Path,
    results: list[dict[str, Any]],
) -> None:  # fmt: skip
    scene, faults = part
    for fault in faults:
        if time.monotonic() > end:
            return
        result = runner.case(scene, fault)
        results.append(result)
        with store.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")


def _broken(scene: Scene, error: RuntimeError) -> dict[str, Any]:
    return {
        "scene": scene.key, "fault": "none", "kind": "none", "outcome": "broken without a fault",
        "code": None, "reached": True, "detail": str(error)[:1000], "call": [], "seconds": 0,
    }  # fmt: skip


def page(
    results: Sequence[dict[str, Any]], covered: Counter[str], part: str, seed: int, complete: bool
) -> str:
    """The table for people: outcomes of each command by fault, and each failure."""
    lines = [
        f"part {part}, seed {seed}, {len(results)} cases" + ("" if complete else ", cut by time")
    ]
    kinds = list(dict.fromkeys(each["kind"] for each in results))
    lines += ["", " | ".join(["command", *kinds])]
    by_scene: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for each in results:
        by_scene[each["scene"]][each["kind"]][each["outcome"]] += 1
    for scene, found in by_scene.items():
        cells = [
            ", ".join(f"{count} {name}" for name, count in found[kind].items()) or "-"
            for kind in kinds
        ]
        lines.append(" | ".join([scene, *cells]))
    total = Counter(each["outcome"] for each in results)
    lines += ["", "outcomes: " + ", ".join(f"{n} {name}" for name, n in total.most_common())]
    lines.append(f"losses (lost, differs, silent): {sum(map(_is_loss, results))}")
    lines.append(f"not reached: {sum(not each['reached'] for each in results)}")
    lines += ["", "failures (each distinct one once):"]
    seen: set[tuple[str, str, str]] = set()
    for each in results:
        key = (each["scene"], each["outcome"], (each["call"] or ["", "", ""])[2])
        if each["outcome"] == "ok" or key in seen:
            continue
        seen.add(key)
        call = " ".join(each["call"][:2]) if each["call"] else ""
        lines.append(f"  {each['scene']} | {each['fault']} | {call} | {each['outcome']}")
        lines.append(f"      {each['detail'][:400]}")
        if each["call"]:
            lines.append(f"      by {each['call'][2]}")
    if covered:
        lines += ["", "writers covered (number of calls, innermost functions of mmtune):"]
        lines += [f"  {n:5} {name or '(a library)'}" for name, n in sorted(covered.items())]
    return "\n".join(lines) + "\n"


def _is_loss(result: dict[str, Any]) -> bool:
    return any(kind in result["outcome"].split(" + ") for kind in oracle.LOSSES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--part", choices=("small", "sample", "all"), default="sample")
    parser.add_argument("--budget", type=float, default=900.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", metavar="SCENE", help="a scene's name or part")
    options = parser.parse_args()
    if library() is None:
        print("skipped: faults need Linux and a C compiler")
        return 0
    scenes = [*writers(), *commands()]
    if options.only:
        scenes = [s for s in scenes if any(part in s.key for part in options.only)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results = attack(options.out, options.part, options.budget, options.seed, scenes)
    print(options.out.read_text(encoding="utf-8"))
    return int(any(each["outcome"] != "ok" for each in results))


if __name__ == "__main__":
    sys.exit(main())
