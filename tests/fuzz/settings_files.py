"""Parsers of what users write: lists of terms, and settings in YAML."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import Files, stored
from tests.fuzz.user_files import each


def terms_seeds() -> list[Files]:
    return [
        {"terms.txt": b"# drugs\nmetoprolol\nNSTEMI = en stemmy\nbeta-blocker | beta blocker\n"
                      b"[unseen]\napixaban\n"},
        {"terms.txt": b"one\ntwo\nONE | three\n"},
        {"terms.txt": b"[unseen]\none\n[unseen]\n"},
        {"terms.txt": b"\n"},
        {"terms.txt": "\ufeffÅngström\n日本 = nihon\n".encode()},
        {"terms.txt": b"C++\n.NET\nWHO\nq.d.\n21\nO'Neill's\nMRI\n(x)\n",
         "said.txt": "The WHO's C++ and (.NET q.d., it's twenty one.\nC# WHO\nO\u2019Neill's $5\n"
                     "'quoted' MRIs, the MRI\n.net".encode()},
        {"terms.txt": "MRI\n日本\nIT\n".encode(),
         "said.txt": "日本語のMRIとMRIS、IT\nが\n".encode()},
        {"terms.txt": b"beta blocker\nWHO | W.H.O.\n", "said.txt": b"GIVE A BETA BLOCKER WHO\n"},
    ]  # fmt: skip


def parse_terms(folder: Path) -> None:
    from mmtune.metrics.text.term_finder import TermFinder
    from mmtune.speech.corpus.term_list import find_terms, read_terms

    each(lambda: find_terms(Path("medical")), lambda: find_terms(Path("nothing")))
    each(lambda: read_terms(folder), lambda: read_terms(folder / "nothing.txt"))
    terms = read_terms(find_terms(folder / "terms.txt"))
    said = folder / "said.txt"
    text = said.read_bytes()[:5000].decode("utf-8", "replace") if said.is_file() else ""
    texts = ["some words and metoprolol", *text.splitlines()[:20]]
    for language in ("en", "ja", None):
        found = TermFinder((term.text for term in terms), language, {"words": ["some"], "x": []})
        for one in texts:
            found(one, ["words", *one.split()[:3]])
            found.count(one, "sv")


def recipe_seeds() -> list[Files]:
    return [
        {"recipe.yaml": stored("speech", "recipe.yaml"),
         "suite.yaml": stored("speech", "suite.yaml")},
        {"recipe.yaml": stored("image", "recipe.yaml")},
        {"recipe.yaml": b"recipe: dialect\nmodality: speech\nbase: b\ndata: x\nlora.rank: 4\n"
                        b"train:\n  learning_rate: 1e-3\n  batch_size: '8'\n"},
        {"recipe.yaml": b"recipe: dialect\nmodality: speech\nbase: b\nepochs: true\n"
                        b"targets: a,b\nscales: 0.5\nlr: 1e-3\ntrain: null\n"},
        {"recipe.yaml": b"recipe: dialect\nmodality: speech\nbase: b\nlora: {rank: 4, r: 5}\n"},
        {"recipe.yaml": b"recipe: dialect\nmodality: speech\n"},  # the base is missing
        *({"recipe.yaml": b"recipe: dialect\nmodality: speech\nbase: b\nname: " + name + b"\n"}
          for name in (b"''", b"../x", b'"\\x01"', b"x" * 300, b".")),
    ]  # fmt: skip


def parse_recipe(folder: Path) -> None:
    from mmtune.runs.recipes import load_recipe

    large = folder / "large.yaml"
    large.touch()
    os.truncate(large, 2**24)  # takes no room on the disk
    each(
        lambda: load_recipe(str(folder)),
        lambda: load_recipe("nothing"),
        lambda: load_recipe(str(large)),
    )
    config = load_recipe(str(folder / "recipe.yaml"))
    (folder / "again.yaml").write_text(config.dump(), encoding="utf-8")
    load_recipe(str(folder / "again.yaml"))
    words = (folder / "recipe.yaml").read_bytes().decode("utf-8", "replace").split()
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    for key, value in [*list(pairs.items())[:5], ("scales", value_of(words)), ("epochs", True)]:
        given: dict[str, Any] = {key.rstrip(":"): value, "base": "b"}
        each(lambda: load_recipe("dialect", given))  # noqa: B023


def value_of(words: Sequence[str]) -> str:
    """A list as the command line gives it."""
    return f"[{','.join(words[:3])}" if len(words) % 2 else ",".join(words[:3])


def suite_seeds() -> list[Files]:
    return [
        {"suite.yaml": stored("speech", "suite.yaml")},
        {"suite.yaml": stored("image", "suite.yaml")},
        {"suite.yaml": b"name: mine\nextends: terminology\ngates: []\n"},
        {"suite.yaml": b"name: mine\nextends: other.yaml\n",
         "other.yaml": stored("speech", "suite.yaml")},
        {"suite.yaml": b"name: mine\nextends: suite.yaml\n"},
        {"suite.yaml": b"name: m\nmodality: speech\nmain: [{metric: a, slice: b}]\ngates:\n"
                       b"- {name: a, asks: q, metric: m, slice: s, at_least: 0, needs: base,"
                       b" items_from: task.x}\n"
                       b"- {name: b, asks: q, metric: m, slice: s, at_most: 1, optional: true}\n"
                       b"- {name: c, asks: q, metric: m, slice: s, at_most: 1,"
                       b" needs: data.path}\n"},
        {"suite.yaml": b"name: m\nmodality: speech\nmain: [{metric: a, slice: b, x: 1}]\n"},
        {"suite.yaml": b"name: m\nmodality: speech\ngates: [{name: a, y: 1}]\n"},
        {"suite.yaml": b"name: m\nmodality: image\nmain: [{metric: a, slice: b}]\ngates:\n"
                       b"- {name: a, asks: q, metric: m, slice: s, at_most: 1}\n"
                       b"- {name: a, asks: q, metric: m, slice: s, at_most: 1}\n"},
    ]  # fmt: skip


def parse_suite(folder: Path) -> None:
    from mmtune.evaluation.suite import load_suite, unmet
    from mmtune.runs.modalities import setting_names
    from mmtune.runs.recipes import load_recipe

    path = str(folder / "suite.yaml")
    each(
        lambda: load_suite("nothing"),
        lambda: load_suite(path, "speech", setting_names("speech")),
        lambda: load_suite(path, "image"),
    )
    suite = load_suite(path)
    list(unmet(suite, load_recipe("dialect", {"base": "b"})))
    (folder / "again.yaml").write_text(suite.dump(), encoding="utf-8")
    load_suite(str(folder / "again.yaml"))


def guide_seeds() -> list[Files]:
    return [
        {"brand.yaml": b"brand: Acme\npalette: {ink: '#3F3F3F', sun: FCEA2B}\ntolerance: 4\n"
                       b"off_palette: 0.1\ngrounds: [white, transparent, ink, '#abc', navy]\n"
                       b"forbidden_words: [cheap, low cost]\nforbidden_things: [a gun]\n"
                       b"trigger: acme icon\nreferences: [a.png]\nnotes: |\n  Round.\n"},
        {"brand.yaml": b"palette: ['#fff', '#000']\ngrounds: rgb(999, 0, 0)\n"},
        {"brand.yaml": b"forbidden_words: [no, 2024, ~]\n"},
        {"brand.yaml": b"palette: {1: 000000}\n"},
    ]  # fmt: skip


def parse_guide(folder: Path) -> None:
    from mmtune.image.brand.brand_guide import read_guide
    from mmtune.image.brand.forbidden_words import find_words
    from mmtune.image.brand.picture_rules import picture_rules

    guide = read_guide(folder / "brand.yaml")
    picture_rules(guide, "#ffffff")
    find_words("a cheap car", guide.forbidden_words)


def route_seeds() -> list[Files]:
    route = {"modality": "speech", "base": "b", "base_hash": "0", "by": "accent", "parents": [],
             "labels": {"a": {"one": 0.5}}, "otherwise": {}}  # fmt: skip
    return [
        {"route.yaml": b"by: accent\nlabels: {a: runs/x, b: none, c: {runs/x: 0.5}}\n"},
        {"gate.json": json.dumps(route).encode(), "adapters/one/card.json": b"{}"},
        {"gate.json": json.dumps(route).encode()},  # its adapter is missing
    ]


def parse_route(folder: Path) -> None:
    from mmtune.adapters.routing import is_route, read_route, read_route_file

    def whole() -> None:
        is_route(folder)
        route, _ = read_route(folder)
        for label in (None, "a", "zzz"):
            route.of_label(label)

    each(whole, lambda: read_route_file(folder / "route.yaml"))
