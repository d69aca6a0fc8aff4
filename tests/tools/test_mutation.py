"""Mutants, the sample, and which tests are tried: tools/mutation.py."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("mutation")


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("mutants")


CHANGES = {
    "a < b": ["a <= b"],
    "a == b != c": ["a != b != c", "a == b == c"],
    "a is None": ["a is not None"],
    "a not in b": ["a in b"],
    "a - b": ["a + b"],
    "a // b": ["a / b"],
    "'text' + a": [],
    "a and b": ["a or b"],
    "not a": ["a"],
    "-a": ["a"],
    "3": ["4"],
    "0.5": ["1.5"],
    "True": ["False"],
    "'text'": [],
    "f'{a + 1}'": [],
    "a[:n]": ["a[n:]"],
    "a[n:]": ["a[:n]"],
    "max(a, b)": ["min(a, b)"],
    "abs(a)": ["a"],
    "sorted(a, key=f)": ["list(a)"],
    "[f(x) for x in a]": ["[f(x) for x in list(a)[::-1]]"],
    "{f(x) for x in a if x}": ["not (x)"],
    "a if b else c": ["not (b)"],
    "zip(a, b, strict=True)": [],
}


@pytest.mark.parametrize("code", CHANGES)
def test_each_kind_of_expression_has_its_changes(mutants: Any, tmp_path: Path, code: str) -> None:
    source = f'"""A page."""\n\n\ndef f(a: int, b: int):\n    return {code}\n'
    (tmp_path / "page.py").write_text(source)
    found = mutants.mutants_of("page.py", tmp_path)
    assert [each.change.partition(" -> ")[2] for each in found] == CHANGES[code]
    for each in found:
        assert (each.owner, each.first, each.at_import) == ("f", 5, False)
        changed = each.applied(source.encode()).decode()
        assert changed != source
        assert changed.splitlines()[:4] == source.splitlines()[:4]


def test_statements_and_what_is_passed_over(mutants: Any, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(
        "LIMIT: int = 3\n"
        "class A(Protocol):\n    size: int = 4\n"
        "class B:\n"
        "    def f(self, n=7):\n"
        '        """Add 1."""\n'
        "        with lock():\n"
        "            self.n += n\n"
        "        if n:\n"
        "            raise ValueError(n + 1)\n"
        "        tell(n)\n"
        "        while True:\n"
        "            break\n"
        "        total = n\n"
    )
    found = mutants.mutants_of("page.py", tmp_path)
    assert [each.name for each in found] == [
        "page.py module: 3 -> 4",
        "page.py B.f: 7 -> 8",
        "page.py B.f: lock() -> nullcontext()",
        "page.py B.f: self.n += n -> pass",
        "page.py B.f: self.n += n -> self.n -= n",
        "page.py B.f: n -> not (n)",
        "page.py B.f: tell(n) -> pass",
        "page.py B.f: break -> continue",
    ]
    assert [each.at_import for each in found] == [True, True, *[False] * 6]


def test_each_beginning_of_the_sample_is_a_sample(tool: Any) -> None:
    """Whoever stops early has measured each package in its share."""
    sizes = {"large": 600, "middle": 300, "small": 100}
    everything = {
        package: [tool.Mutant(package, str(i), 1, 1, 0, 0, "", "", 1, False) for i in range(size)]
        for package, size in sizes.items()
    }
    whole = tool.sample(everything, 100, 0)
    assert len({(m.file, m.owner) for m in whole}) == 100
    for some in (10, 50, 100):
        counted = Counter(m.file for m in whole[:some])
        assert all(abs(counted[p] - size * some / 1000) <= 1 for p, size in sizes.items())
    assert tool.sample(everything, 100, 0) == whole
    assert tool.sample(everything, 100, 1) != whole


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (9, 10), (10, 10), (360, 400)])
def test_the_interval_is_wilsons(tool: Any, hits: int, count: int) -> None:
    theirs = binomtest(hits, count).proportion_ci(method="wilson")
    assert tool.wilson(hits, count) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert tool.wilson(0, 0) == (0, 1)


def test_tests_are_those_that_execute_the_place_the_fastest_first(tool: Any) -> None:
    runs = importlib.import_module("mutation_runs")

    def timed(name: str, seconds: float, *lines: int) -> Any:
        return runs.Timed(name, seconds, {"a.py": frozenset(lines)} if lines else {})

    tests = [
        timed("slow", 9, 4, 5), timed("fast", 1, 5), timed("middle", 2, 5, 9),
        timed("elsewhere", 0.1, 9), timed("another file", 0.1),
    ]  # fmt: skip
    mutant = tool.Mutant("a.py", "f", 5, 6, 0, 0, "", "", 1, False)
    chosen, over = runs.choose(mutant, tests, 40)
    assert ([test.name for test in chosen], over) == (["fast", "middle", "slow"], 0)
    chosen, over = runs.choose(mutant, tests, 5)
    assert ([test.name for test in chosen], over) == (["fast", "middle"], 1)
    # A default or a constant is read when the file is imported: each test of the file may tell.
    at_import = tool.Mutant("a.py", "f", 1, 1, 0, 0, "", "", 1, True)
    chosen, _ = runs.choose(at_import, tests, 40)
    assert [test.name for test in chosen] == ["elsewhere", "fast", "middle", "slow"]


def test_the_table_counts_what_ran_out_of_time_and_spares_equivalents(tool: Any) -> None:
    outcomes = ["killed"] * 7 + ["timeout", "survived", "survived"]
    results = {
        str(i): {"mutant": str(i), "package": "data", "outcome": outcome}
        for i, outcome in enumerate(outcomes)
    }
    whole = tool.table(results, {"9": "the order of a set"})[-1].split()
    assert whole[:6] == ["all", "10", "8", "1", "1", "1"]
    assert whole[6] == "88.9%"
    assert tool.table({}, {})[-1].split()[-1] == "-"
