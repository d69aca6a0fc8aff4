"""Structure-aware mutations of text: values in JSON and YAML, cells and lines of tables, times."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

SECRET = "secret.txt"  # a file beside each input folder, which no parser may open
# Values that a parser of tables, manifests or settings doesn't expect where they stand.
WORDS: tuple[str, ...] = (
    "", " ", "0", "-1", "1e400", "nan", "inf", "null", "~", "true", "2024-01-01", "0x10", "1_000",
    "99999999999999999999999", "é", "\u202e", "\x00", "\x1b[31m", "a" * 300, f"../{SECRET}",
    f"../../{SECRET}", "/etc/passwd", "/dev/zero", "a/../../b", "C:\\x", "%s%n", "{{7*7}}",
    "'", '"', '"""', ",", ";", "\t", "|", ":", "-->", "::", "1:2:3:4", "00:00:-1", "12.5", "[x]",
    "[unseen]", "=", "a=b=c", "# x", "- x", "*a", "&a x", "!!python/object:os.system {}", "<<",
    "<v x>", "<i>", "{\\an8}", "NOTE", "WEBVTT", "STYLE", "ok.wav", "ok.png",
    "../ok.wav", "../ok.png", "train", "mix",
    "..", ".", "~root", "file:///etc/passwd", "http://127.0.0.1:9/x", "speech", "image",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, float("nan"), float("inf"), 10**30, "", [], {}, [[]], [None],
    {"a": None}, {"": ""}, [1, "x", None], "\ud800", *WORDS,
)  # fmt: skip

MAX_PLACES = 10_000  # of a tree: aliases in YAML make trees of billions

Mutator = Callable[[bytes, random.Random], bytes]


def text(data: bytes, chance: random.Random) -> bytes:
    """Change lines, cells or the encoding of a text file."""
    change = chance.choice(TEXT_CHANGES)
    return change(data, chance)


def _lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")


def _drop_line(data: bytes, chance: random.Random) -> bytes:
    lines = _lines(data)
    del lines[chance.randrange(len(lines))]
    return b"\n".join(lines)


def _repeat_line(data: bytes, chance: random.Random) -> bytes:
    lines = _lines(data)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"\n".join(lines)


def _swap_lines(data: bytes, chance: random.Random) -> bytes:
    lines = _lines(data)
    i, j = (chance.randrange(len(lines)) for _ in range(2))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def _replace_cell(data: bytes, chance: random.Random) -> bytes:
    lines = _lines(data)
    i = chance.randrange(len(lines))
    cut = re.split(rb"([,;\t|: ]+)", lines[i])
    cut[2 * chance.randrange((len(cut) + 1) // 2)] = _word(chance)
    lines[i] = b"".join(cut)
    return b"\n".join(lines)


def _change_number(data: bytes, chance: random.Random) -> bytes:
    numbers = list(re.finditer(rb"\d+(?:\.\d+)?", data))
    if not numbers:
        return _insert(data, chance)
    one = chance.choice(numbers)
    new = chance.choice(
        [b"-1", b"0", b"1e9", b"9" * 25, b"nan", b"0.0", b"99", b"1e-9", b"1:2:3:4"]
    )
    return data[: one.start()] + new + data[one.end() :]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + _word(chance) + data[at:]


def _long_line(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice([b"a", b'"', b",", b"[", b"("]) * 30_000 + data[at:]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _encode(data: bytes, chance: random.Random) -> bytes:
    words = data.decode("utf-8", "replace")
    how = chance.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252"])
    return words.encode(how, "replace")


def _ends(data: bytes, chance: random.Random) -> bytes:
    end = chance.choice([b"\r\n", b"\r", b"\n\n", b"\x0b", b"\x0c", b"\xe2\x80\xa8"])
    return data.replace(b"\n", end)


def _word(chance: random.Random) -> bytes:
    return chance.choice(WORDS).encode("utf-8", "surrogatepass")


def flip(data: bytes, chance: random.Random) -> bytes:
    """Change a few bytes anywhere."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.choice(
                [0, 0xFF, 0x80, chance.randrange(256)]
            )
    return bytes(changed)


def cut_or_repeat(data: bytes, chance: random.Random) -> bytes:
    """Cut a part out, cut the end off, or write a part twice."""
    first, last = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    part = data[first:last]
    return chance.choice(
        [data[:first] + data[last:], data[:first], data[:last] + part + data[last:]]
    )


TEXT_CHANGES: Sequence[Mutator] = (
    _drop_line, _repeat_line, _swap_lines, _replace_cell, _replace_cell, _replace_cell,
    _change_number, _change_number, _insert, _insert, _long_line, _cut, _encode, _ends, flip,
)  # fmt: skip


def change_tree(value: Any, chance: random.Random) -> Any:
    """Replace, remove, rename or nest one value somewhere in a tree of JSON values."""
    places = list(islice(_places(value), MAX_PLACES))
    if not places:
        return chance.choice(VALUES)
    holder, key = chance.choice(places)
    what = chance.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[str(chance.choice(WORDS))] = holder.pop(key)
    elif what == 2:
        holder[key] = [holder[key]]
    elif what == 3:
        holder[key] = {"a": holder[key]}
    elif what == 4 and isinstance(holder, dict):
        holder[chance.choice(WORDS)] = chance.choice(VALUES)
    elif what == 5 and isinstance(holder, list):
        holder.append(chance.choice(VALUES))
    else:
        holder[key] = chance.choice(VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    is_list = isinstance(value, list)
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if is_list else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def json_file(data: bytes, chance: random.Random) -> bytes:
    """Change one value of a JSON file, or its text."""
    if chance.random() < 0.25:
        return chance.choice([text, _nest_json, _repeat_key])(data, chance)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return text(data, chance)
    return _dumped(change_tree(value, chance))


def json_lines(data: bytes, chance: random.Random) -> bytes:
    """Change one line of JSONL as a JSON file, or the lines as text."""
    if chance.random() < 0.3:
        return text(data, chance)
    lines = _lines(data)
    i = chance.randrange(len(lines))
    lines[i] = json_file(lines[i], chance)
    return b"\n".join(lines)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _nest_json(data: bytes, chance: random.Random) -> bytes:
    start, end = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    depth = chance.choice([50, 3000, 100_000])
    return start * depth + data + end * depth


def _repeat_key(data: bytes, chance: random.Random) -> bytes:
    names = re.findall(rb'"(\w+)":', data) or [b"id"]
    return data.replace(b"{", b'{"' + chance.choice(names) + b'": 1, ', 1)


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)
YAML_PARTS: tuple[str, ...] = (
    BOMB, "x: 2024-01-01\n", "x: !!binary aGk=\n", "x: !!set {a, b}\n", "? [a, b]\n: c\n",
    "<<: {a: 1}\n", "<<: *none\n", "x: &x\n  y: *x\n", "- a\n- b\n", "--- a\n--- b\n",
    "%YAML 9.9\n",
    "x: !!python/object/apply:os.system ['true']\n", "x: 0o17\n", "x: 1:30:00\n", "\tx: 1\n",
    "no: yes\n", "1: 2\n", "null: 1\n", "x: |\n  a\n", "x: .inf\n", "x: .nan\n", '"\\ud800": 1\n',
)  # fmt: skip


def yaml_file(data: bytes, chance: random.Random) -> bytes:
    """Change one value of a YAML file, add what YAML alone has, or change its text."""
    import yaml

    from mmtune.settings.yaml_text import load_yaml

    what = chance.random()
    if what < 0.2:
        return text(data, chance)
    if what < 0.35:
        part = chance.choice(YAML_PARTS).encode()
        return data + b"\n" + part if chance.random() < 0.7 else part
    if what < 0.4:
        depth = chance.choice([50, 2000])
        return data + b"\nx: " + b"[" * depth + b"]" * depth
    try:
        value = load_yaml(data.decode("utf-8", "replace"))
        changed = change_tree(value, chance)
        return yaml.safe_dump(changed, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return text(data, chance)
