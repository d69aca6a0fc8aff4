"""`brand.yaml`: what is read, and what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.image.brand.brand_guide import read_guide
from mmtune.image.brand.forbidden_words import find_words


def written(folder: Path, text: str) -> Path:
    path = folder / "brand.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_keys_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "brand: Acme\n"
        'palette: {Ink: "#3f3f3f", sun: FCEA2B, red: "#f00"}\n'
        "tolerance: 4\noff_palette: 0.1\n"
        'grounds: [WHITE, transparent, ink, "#abc", navy]\n'
        "forbidden_words: cheap, low  cost\n"
        "forbidden_things: [a gun]\n"
        'trigger: " acme  icon,"\n'
        "references: [refs/a.png]\n"
        "notes: |\n  Round corners.\n",
    )
    guide = read_guide(path)
    assert guide.palette == {"Ink": "#3F3F3F", "sun": "#FCEA2B", "red": "#FF0000"}
    assert (guide.tolerance, guide.off_palette) == (4.0, 0.1)
    assert guide.grounds == ("white", "transparent", "Ink", "#AABBCC", "navy")
    assert guide.ground_colours("#102030") == {
        "white": "#FFFFFF",
        "transparent": "#102030",
        "Ink": "#3F3F3F",
        "#AABBCC": "#AABBCC",
        "navy": "#000080",
    }
    assert guide.forbidden_words == ("cheap", "low cost")
    assert (guide.trigger, guide.notes) == ("acme icon", "Round corners.\n")
    assert guide.references == (tmp_path / "refs" / "a.png",)


def test_a_key_may_be_empty(tmp_path: Path) -> None:
    guide = read_guide(written(tmp_path, "trigger: acme icon\nnotes:\n"))
    assert (guide.trigger, guide.notes) == ("acme icon", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("palete: [a]\n", r"line 1: unknown key 'palete'[\s\S]*did you mean palette"),
        ("brand: x\npalette:\n  ink: #3F3F3F\n", r"line 3: palette: .*'ink' is empty.*# begins"),
        ('palette:\n  sun: "#FCEA2B"\n\n  ink: navy\n', r"line 4: palette: .*'ink' is 'navy'"),
        ('palette:\n- "#FCEA2B"\n', r'line 1: palette: write a line for each colour.*sun: "#'),
        ('palette: "#FCEA2B, #3F3F3F"\n', r"line 1: palette = .*: write a line for each colour"),
        ('palette:\n  no: "#fff"\n  on: "#000"\n', r"line 2: palette: .*name is False"),
        ('palette:\n  a: "#fff"\n  A: "#000"\n', r"line 3: palette: two colours"),
        ("grounds:\n- white\n- snoww\n", r"line 3: grounds: 'snoww' is no ground"),
        ("grounds: white, snoww\n", r"line 1: grounds.*'snoww' is no ground"),
        ("forbidden_words:\n- cheap\n- '!'\n", r"line 3: .*has no letter or digit"),
        ("forbidden_words:\n- cheap\n- cheap\n- yes\n", r"line 4: .*value 3 is True"),
        ("palette:\n\tsun: '#fff'\n", r"line 2, is not YAML: it begins with a tab"),
        ("palette:\n  a: '#fff'\n\tb: '#000'\n", r"line 3, is not YAML: it begins with a tab"),
        ("palette: {ink: 000000}\n", r"line 1: palette: .*'ink' is 0.*quotation marks"),
        ("palette: {ink: navy}\n", r"'ink' is 'navy'"),
        ('palette: {ink: "#12345"}\n', r"'ink' is '#12345'"),
        ('palette: {ink: "#fff", INK: "#000"}\n', r"two colours are called 'INK'"),
        ('palette: {transparent: "#fff"}\n', r"can't be a colour's name"),
        ("palette: 5\n", r"palette = 5: write a line for each colour"),
        ('palette: {ink: "#123456"}\ngrounds: [whit]\n', r"line 2: grounds: 'whit' is no ground"),
        ("grounds: ['rgb(999, 0, 0)']\n", r"'rgb\(999, 0, 0\)' is no ground"),
        ("grounds: {a: b}\n", r"grounds: it is a list"),
        ("forbidden_words: [no, 2024]\n", r"value 1 is False.*quotes"),
        ("forbidden_words: [{a: b}]\n", r"value 1 is .*not a text"),
        ("forbidden_words: ['!']\n", r"has no letter or digit"),
        ("forbidden_words: [cheap, '_']\n", r"forbidden_words.*'_' has no letter or digit"),
        ("forbidden_words: ['- _']\n", r"'- _' has no letter or digit"),
        ("forbidden_things: ['__']\n", r"'__' has no letter or digit"),
        ("trigger: '-'\n", r"line 1: trigger = '-': '-' has no letter or digit"),
        ("trigger: _ ,\n", r"trigger.*has no letter or digit"),
        ("tolerance: high\ntrigger: a\n", r"line 1: tolerance = 'high': .*number"),
        ("tolerance: true\ntrigger: a\n", r"tolerance = True: it is a number"),
        ("off_palette: 3\ntrigger: a\n", r"off_palette = 3: .*less than 1"),
        ("tolerance: .nan\ntrigger: a\n", r"tolerance.*(finite|greater)"),
        ("brand: x\nnotes: y\n", r"brand\.yaml: the guide has no rule"),
        ("trigger: a cheap icon\nforbidden_words: [cheap]\n", r"the forbidden word 'cheap'"),
        ('notes: "\\uD800"\n', r"notes.*half of a surrogate pair"),
        ('palette: {"\\uD800": "#fff"}\n', r"palette.*half of a surrogate pair"),
        ("- a\n", r"holds no settings"),
        ("palette: [\n", r"is not YAML"),
    ],
)
def test_each_mistake_is_named_with_its_cure(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found) as error:
        read_guide(written(tmp_path, text))
    assert error.value.cure
    assert "brand.yaml" in error.value.found


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "text file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "text file"),
        (b"a: b\0", "text file"),
        ("palette: {}".encode("utf-16"), "text file"),
        (b"a: b\nc: [\n", "mend line 3"),
    ],
)
def test_another_file_than_yaml(tmp_path: Path, content: bytes, cure: str) -> None:
    path = tmp_path / "brand.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not YAML") as error:
        read_guide(path)
    assert cure in error.value.cure


def test_a_guide_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="no such brand guide"):
            read_guide(path)


@pytest.mark.parametrize(
    ("text", "word", "has"),
    [
        ("a cheap car", "cheap", True),
        ("CHEAP!", "cheap", True),
        ("a cheaper car", "cheap", False),
        ("supercheap", "cheap", False),
        ("car_cheap_2", "cheap", True),
        ("a low-cost car", "low cost", True),
        ("low\n cost", "low-cost", True),
        ("lowcost", "low cost", False),
        ("STRASSE", "straße", True),
        ("cafe\u0301 at night", "café", True),
        ("ｃｈｅａｐ", "cheap", True),
        ("made with C++", "c++", True),
        ("made with C", "c++", False),
        ("安い車", "安い", True),
        ("", "cheap", False),
    ],
)
def test_words_are_found_whole_in_any_case(text: str, word: str, has: bool) -> None:
    assert bool(find_words(text, [word])) == has
