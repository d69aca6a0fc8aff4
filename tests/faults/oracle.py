"""What must hold after a fault: an error with a cure, nothing lost, and then the same bits."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.injection import KINDS, REMOVE, Fault, Outcome

TIMES = {"seconds", "speed", "time", "created", "rows_per_second"}
# Locks and pins of ended processes mean nothing, and a name under which nothing is lost.
IGNORED = re.compile(r"(^|/)(lock|pins|[^/]*\.lock)(/|$)")
# A page says when it was written, and how fast the machine was.
CLOCK = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC|Speed: .{0,400}? real time", re.DOTALL)
APPENDED = ("answers.jsonl", "log.jsonl")  # a cut line at the end is skipped by their readers
# Names under which mmtune writes aside. A killed process leaves them; a later run removes them when
# they are old (`mmtune.system.files.remove_partials`), because another process may still write.
PARTIAL = re.compile(r"(^|/)\.partial-[0-9a-f]{32}(\.[^/]*)?(/|$)")
TEMPORARY = re.compile(r"partial|(^|/)\.[^/]+\.[a-z0-9_]{8}(/|$)|\.tmp")

Tree = Mapping[str, str]


@dataclass(frozen=True)
class Judgement:
    """`kind` is "ok" or what failed; `detail` is for people."""

    kind: str
    detail: str = ""


LOSSES = ("lost", "differs", "silent")


def tree(folder: Path) -> dict[str, str]:
    """A hash of the meaning of each file below a folder, without those that are written aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not _passed_over(name):
            found[name] = _meaning(path)
    return found


def partials(folder: Path) -> set[str]:
    """The files below a folder that are written aside."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if PARTIAL.search(name)}


def _passed_over(name: str) -> bool:
    return bool(IGNORED.search(name) or PARTIAL.search(name))


def _meaning(path: Path) -> str:
    data = path.read_bytes()
    try:
        if path.name == "answers.jsonl":
            lines = {line["key"]: line for line in _lines(data)}
            return _hash(json.dumps(_timeless(lines), sort_keys=True).encode())
        if path.suffix == ".jsonl":
            return _hash(json.dumps(_timeless(_lines(data))).encode())
        if path.suffix == ".json":
            return _hash(json.dumps(_timeless(json.loads(data)), sort_keys=True).encode())
        if path.suffix == ".html":
            return _hash(CLOCK.sub(b"", data))
        if path.suffix == ".safetensors":
            return _hash(_tensors(data))
    except (ValueError, KeyError, TypeError):
        return f"damaged {_hash(data)}"
    return _hash(data)


def _tensors(data: bytes) -> bytes:
    """The tensors of a safetensors file in the order of their names, without its metadata."""
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head.pop("__metadata__", None)
    body = data[8 + length :]
    parts = []
    for name in sorted(head):
        first, last = head[name]["data_offsets"]
        if last > len(body):
            raise ValueError("the file is cut")
        parts.append(f"{name} {head[name]['dtype']} {head[name]['shape']}".encode())
        parts.append(body[first:last])
    return b"\n".join(parts)


def _lines(data: bytes) -> list[Any]:
    found = []
    for line in data.split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def differing(one: Tree, other: Tree) -> set[str]:
    """Names of files whose content differs or that only one tree has."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def after_fault(
    outcome: Outcome,
    fault: Fault,
    before: Mapping[str, bytes],
    place: Path,
    reference: Tree,
    volatile: set[str],
    gone: Iterable[str],
    good: int,
    told: str = "",
) -> Judgement:
    """Judge the end of a process that a fault hit, and the folder that it left.

    Args:
        told: what a process prints that does less than without the fault, and still ends well.
    """
    if outcome.code is None:
        return Judgement("hang", "no end within the time limit")
    deadly = bool(fault.event) or fault.kind in ("kill", "torn")
    if deadly and outcome.code != -9 and outcome.code != good:
        return Judgement("unexpected", f"exit {outcome.code}: {outcome.err[-300:]}")
    if not deadly:
        if "Traceback (most recent call last)" in outcome.err or outcome.code == 70:
            return Judgement("traceback", outcome.err.strip().rpartition("\n")[2][:200])
        if outcome.code < 0:
            return Judgement("crash", f"signal {-outcome.code}")
        if outcome.code != good and outcome.code != 2:
            return Judgement("exit", f"exit {outcome.code}: {outcome.err[-200:]}")
        if outcome.code == 2 and ("error: " not in outcome.err or "cure: " not in outcome.err):
            return Judgement("no cure", outcome.err[-200:])
    lost = _lost(before, place, reference, set(volatile), list(gone))
    if lost:
        return Judgement("lost", ", ".join(sorted(lost)[:4]))
    if not deadly and not KINDS[fault.kind].failing & REMOVE and (left := partials(place)):
        return Judgement("left over", ", ".join(sorted(left)[:4]))
    if outcome.code == good and not deadly and outcome.code == 0 and "error: " not in outcome.err:
        now = tree(place)
        wrong = {
            name for name in differing(now, reference) - volatile
            if not name.startswith("cache/") and not TEMPORARY.search(name)
        }  # fmt: skip
        if wrong and not (told and told in outcome.out + outcome.err):
            return Judgement("silent", "exit 0, but differs: " + ", ".join(sorted(wrong)[:4]))
    return Judgement("ok")


def _lost(
    before: Mapping[str, bytes], place: Path, reference: Tree, volatile: set[str], gone: list[str]
) -> list[str]:
    """Files of before that are neither as they were nor as they shall be."""
    lost = []
    for name, content in before.items():
        path = place / name
        if any(fnmatch.fnmatch(name, f"*{pattern}") for pattern in gone):
            continue
        if not path.exists():
            if name in reference:
                lost.append(f"{name} is gone")
            continue
        now = path.read_bytes()
        if now == content or (path.name in APPENDED and now.startswith(content)):
            continue
        meaning = _meaning(path)
        damaged = meaning.startswith("damaged") or (not now and bool(content))
        if damaged or (meaning != reference.get(name) and name not in volatile):
            lost.append(f"{name} is {'damaged' if damaged else 'neither old nor new'}")
    return lost


def after_repeat(
    outcome: Outcome,
    place: Path,
    reference: Tree,
    volatile: set[str],
    good: int,
    killed: Iterable[str] = (),
) -> Judgement:
    """Judge the same command, repeated without a fault.

    Args:
        killed: files aside that the process with the fault left.
    """
    if outcome.code is None:
        return Judgement("hang", "the repeated command")
    if outcome.code != good:
        return Judgement("differs", f"the repeat ended with {outcome.code}: {outcome.err[-300:]}")
    now = tree(place)
    names = differing(now, reference) - volatile
    wrong = {name for name in names if name in reference}
    if wrong:
        return Judgement("differs", ", ".join(sorted(wrong)[:4]))
    # Whether a run stores its features follows from measured times.
    names = {name for name in names if not name.startswith("cache/prefix/")}
    names |= partials(place) - set(killed)
    if names:
        return Judgement("left over", ", ".join(sorted(names)[:4]))
    return Judgement("ok")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _passed_over(path.relative_to(folder).as_posix())
    }


def fails(fault: Fault) -> bool:
    """Whether the fault is an error of a call rather than the end of the process."""
    return not fault.event and bool(KINDS[fault.kind].number)
