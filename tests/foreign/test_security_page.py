"""The page of security names a test for each of its claims, and the test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_each_claim_s_test_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 30
    for file, function in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert not function or function in names, f"{file}::{function}"


def test_each_row_of_a_table_of_claims_names_a_test() -> None:
    tables = re.findall(r"\| claim \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    assert len(tables) == 5
    for row in "".join(tables).splitlines():
        assert re.search(r"`[\w/]+\.py", row.rpartition(" | ")[2] or row), row


def test_each_test_of_foreign_files_is_named() -> None:
    for path in (ROOT / "tests" / "foreign").glob("test_*.py"):
        if path.name != Path(__file__).name:
            assert f"foreign/{path.name}" in PAGE
