"""The script that lists the strings that users read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "user_strings.py"

MODULE = '''
"""What the file holds."""


class _Hidden:
    """A private class."""


def ask(parser, name):
    """Ask for a name.

    The rest isn't listed.
    """
    parser.add_argument("--name", help="name of the thing")
    note("a line for the user")
    if name == "no prose":
        raise TypeError("a mistake of the programmer")
    cure = "give another name"
    yield Finding("kind", name, f"{name!r} is taken by {name.owner}", cure)
    raise ConfigError("no such thing" + f" as {name} here")
'''


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("user_strings", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "user_strings", module)
    spec.loader.exec_module(module)
    return module


def test_kinds(script) -> None:
    found = [(t.kind, t.text, t.owner) for t in script.collect({"mmtune/a.py": MODULE})]
    assert found == [
        ("docstring", "What the file holds.", "a"),
        ("docstring", "Ask for a name.", "ask"),
        ("help", "name of the thing", "ask"),
        ("printed", "a line for the user", "ask"),
        ("text", "no prose", "ask"),
        ("text", "give another name", "ask"),
        ("finding", "{name!r} is taken by {name.owner}", "ask"),
        ("error", "no such thing", "ask"),
        ("error", "as {name} here", "ask"),
    ]


def test_pages_and_suites(script) -> None:
    page = "<p>\nA sentence with {{ value }}.</p>{% if it is so %}<b>And one more</b>{% endif %}"
    suite = "name: x\ngates:\n  - metric: WER\n    asks: Is it better?\n"
    found = script.collect({"a.html.j2": page, "b.yaml": suite, "c.js": 'f("which of them?");'})
    assert [(t.kind, t.text, t.line) for t in found] == [
        ("page", "A sentence with {{ value }}.", 2),
        ("page", "And one more", 2),
        ("suite", "Is it better?", 4),
        ("page", "which of them?", 1),
    ]


def test_a_moved_file_changes_nothing_and_a_reworded_string_is_paired(script) -> None:
    old = script.collect({"mmtune/a.py": MODULE})
    new = MODULE.replace("is taken by {name.owner}", "belongs to {name.holder}")
    new += '\n\ndef more():\n    """One more line."""\n'
    pairs, removed = script.compare(old, script.collect({"mmtune/b/c.py": new}))
    before = {after.text: None if was is None else was.text for after, was in pairs}
    assert before == {
        "{name!r} belongs to {name.holder}": "{name!r} is taken by {name.owner}",
        "One more line.": None,
    }
    assert removed == 0


def test_the_package_is_read(script) -> None:
    files = script.read_tree()
    texts = script.collect(files)
    assert {text.kind for text in texts} >= {"help", "error", "finding", "docstring", "page"}
    assert all(
        text.text in " ".join(files[text.file].split()) for text in texts if text.kind == "page"
    )
