"""Run tests in forks of one process that has imported the large libraries, on a copy of the tree.

A fork starts in milliseconds, where a new Python needs seconds to import torch. mmtune itself is
imported by each fork, from the copy, into which a mutant is written as a file. So processes that a
test starts run the mutant too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mutants import Mutant

# Imported before the first fork. Others are imported by each fork that needs them.
LIBRARIES = (
    "pytest", "hypothesis", "numpy", "scipy.stats", "scipy.sparse", "pydantic", "yaml", "torch",
    "torchaudio", "torchmetrics", "accelerate", "peft", "transformers", "diffusers", "jiwer",
    "transformers.models.whisper.modeling_whisper", "transformers.generation.logits_process",
    "transformers.models.clip.modeling_clip", "transformers.models.t5.modeling_t5",
    "diffusers.optimization", "diffusers.training_utils", "diffusers.loaders",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "diffusers.pipelines.flux.pipeline_flux", "soundfile", "soxr", "av", "PIL.Image", "imagehash",
    "rapidfuzz", "jellyfish", "whisper_normalizer.english", "langcodes", "basic_colormath",
    "librosa", "jinja2", "rich.console", "coverage", "sqlite3",
)  # fmt: skip
MEMORY = 8 * 2**30  # bytes of data of a fork: an endless list must not fill the machine
PATIENCE = 12  # a fork may wait this many times longer than it computes: others share the CPU
OPTIONS = ("-q", "-x", "--assert=plain", "-p", "no:cacheprovider")
FEW = 10  # tests that are tried before the files of all others are imported


@dataclass(frozen=True)
class Timed:
    """A test that passes without a mutant.

    Attributes:
        name: pytest's node id.
        seconds: how long it computed, with what it set up and the processes that it started.
        lines: the lines of the package that it executed, by file.
    """

    name: str
    seconds: float
    lines: Mapping[str, frozenset[int]]


def copy_tree(root: Path, to: Path) -> None:
    """Make `to` a copy of the files that git knows or would add; older files go."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, check=True, capture_output=True).stdout.split(b"\0")
    wanted = {os.fsdecode(name) for name in names if name}
    for path in sorted(to.rglob("*")) if to.exists() else ():
        name = path.relative_to(to).as_posix()
        if path.is_file() and name not in wanted and "__pycache__" not in name:
            path.unlink()
    for name in sorted(wanted):
        source, target = root / name, to / name
        if not source.is_file():
            continue
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    compiled = [sys.executable, "-m", "compileall", "-q", "mmtune", "tests"]
    subprocess.run(compiled, cwd=to, check=True)


def import_libraries() -> None:
    """Import what most tests need, so that forks have it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def in_fork(work: Callable[[], dict[str, Any]], tree: Path, log: Path, cpu: int) -> dict[str, Any]:
    """Run `work` in a fork inside `tree` and return what it returns.

    Args:
        work: the function; its result is JSON.
        tree: the copy of the tree, which is imported from.
        log: receives what is printed.
        cpu: seconds of computing that the fork gets.

    Returns:
        The result; {"ended": reason} if the fork ended without one.
    """
    result = log.with_suffix(".result")
    result.unlink(missing_ok=True)
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        try:
            _enter(tree, log, cpu)
            result.write_text(json.dumps(work()), encoding="utf-8")
        except BaseException as error:  # a fork must never go on as its parent
            print(repr(error), flush=True)
        os._exit(0)
    deadline = time.monotonic() + PATIENCE * cpu
    status = None
    try:
        while status is None and time.monotonic() < deadline:
            found, code = os.waitpid(process, os.WNOHANG)
            status = code if found else time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # with whatever a test has left running
    if status is None:
        status = os.waitpid(process, 0)[1]
    if result.is_file():
        return dict(json.loads(result.read_text(encoding="utf-8")))
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"a fork ended without a result; see {log}")
    number = os.WTERMSIG(status)
    slow = number in (signal.SIGXCPU, signal.SIGKILL)
    return {"ended": "timeout" if slow else f"crash ({number})"}


def _enter(tree: Path, log: Path, cpu: int) -> None:
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(tree)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    os.environ |= {
        "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    # A loaded machine is no reason to fail.
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "mutation", deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("mutation")


# --- which test runs which lines ---


def measured(tree: Path, file: str, folder: Path, most: int) -> list[Timed]:
    """Run one file of tests with coverage, or read what an earlier run has stored of it.

    Args:
        tree: the copy of the tree.
        file: the file of tests, relative to the tree.
        folder: where results are stored, one for each file's content.
        most: seconds of computing after which no further test of the file begins.
    """
    content = hashlib.sha256((tree / file).read_bytes()).hexdigest()[:12]
    stored = folder / f"{file.replace('/', '.')}.{content}.json"
    if not stored.is_file():
        work = partial(_with_coverage, tree, file, most)
        found = in_fork(work, tree, stored.with_suffix(".log"), 3 * most)
        stored.write_text(json.dumps(found), encoding="utf-8")
    found = json.loads(stored.read_text(encoding="utf-8"))
    return [
        Timed(name, seconds, {f: frozenset(lines) for f, lines in where.items()})
        for name, (seconds, where) in found.get("tests", {}).items()
    ]


class _Watch:
    """A plugin of pytest that gives each test its own context of coverage, and times it."""

    def __init__(self, cover: Any, most: float) -> None:
        self.cover, self.most = cover, most
        self.seconds: dict[str, float] = {}
        self.passed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        self.cover.switch_context(item.nodeid)
        began = _computed()
        result = yield
        self.seconds[item.nodeid] = _computed() - began
        self.cover.switch_context("")
        if _computed() > self.most:
            item.session.shouldstop = f"after {self.most} s"
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)
        elif report.failed:
            self.passed.discard(report.nodeid)


def _computed() -> float:
    """Seconds that this process and those that it has started have computed."""
    return sum(os.times()[:4])


def _with_coverage(tree: Path, file: str, most: int) -> dict[str, Any]:
    from coverage import Coverage

    cover = Coverage(data_file=None, include=[f"{tree}/mmtune/*"], config_file=False)
    watch = _Watch(cover, most + _computed())
    cover.start()
    options = [each for each in OPTIONS if each != "-x"]
    pytest.main([*options, "-m", "not slow", file], plugins=[watch])
    cover.stop()
    data = cover.get_data()
    lines: dict[str, dict[str, list[int]]] = {}
    for path in data.measured_files():
        name = Path(path).relative_to(tree).as_posix()
        for line, contexts in data.contexts_by_lineno(path).items():
            for test in contexts:
                lines.setdefault(test, {}).setdefault(name, []).append(line)
    return {
        "tests": {
            test: [round(watch.seconds[test], 3), lines.get(test, {})]
            for test in sorted(watch.passed)
        }
    }


def choose(mutant: Mutant, tests: Sequence[Timed], most: float) -> tuple[list[Timed], int]:
    """Choose the tests that execute a mutant's place, the fastest first.

    Args:
        mutant: at import: all tests of the file's lines are chosen.
        tests: all tests.
        most: seconds that all chosen tests may take together.

    Returns:
        The tests, and how many were too many.
    """
    place = range(mutant.first, mutant.last + 1)
    found = []
    for test in tests:
        lines = test.lines.get(mutant.file, frozenset())
        if lines if mutant.at_import else any(line in lines for line in place):
            found.append(test)
    found.sort(key=lambda test: (test.seconds, test.name))
    chosen, total = [], 0.0
    for test in found:
        total += test.seconds
        if total <= most:
            chosen.append(test)
    return chosen, len(found) - len(chosen)


# --- a mutant ---


@contextlib.contextmanager
def written(mutant: Mutant, tree: Path) -> Iterator[None]:
    """Write the mutant into the copy of the tree, and put the file back afterwards."""
    path = tree / mutant.file
    source, state = path.read_bytes(), path.stat()
    path.write_bytes(mutant.applied(source))
    # Python tells from time and size whether a compiled file is still that of its source.
    os.utime(path, (state.st_atime, state.st_mtime + 1_000))
    try:
        yield
    finally:
        path.write_bytes(source)
        os.utime(path, (state.st_atime, state.st_mtime))


def tried(tree: Path, tests: Sequence[Timed], log: Path) -> dict[str, Any]:
    """Run tests until one fails: {"killed": test, "why": its error} or {"killed": None}."""
    if not tests:
        return {"killed": None}
    cpu = 15 + round(4 * sum(test.seconds for test in tests))
    return in_fork(partial(_until_failure, [t.name for t in tests]), tree, log, cpu)


class _Chosen:
    """A plugin of pytest that runs some tests in their order, and remembers what failed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.order = {name: i for i, name in enumerate(names)}
        self.failed: list[tuple[str, str]] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        own = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(own, key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            last = report.longreprtext.strip().splitlines()[-1:]
            why = crash.message if crash is not None else "".join(last)
            self.failed.append((report.nodeid, why.strip().split("\n")[0][:200]))


def _until_failure(names: Sequence[str]) -> dict[str, Any]:
    for some in (names[:FEW], names[FEW:]):
        if not some:
            break
        chosen = _Chosen(some)
        files = list(dict.fromkeys(name.partition("::")[0] for name in some))
        code = pytest.main([*OPTIONS, *files], plugins=[chosen])
        if chosen.failed:
            return dict(zip(("killed", "why"), chosen.failed[0], strict=True))
        if code != 0:
            return {"killed": files[0], "why": f"pytest ended with {int(code)}"}
    return {"killed": None}
