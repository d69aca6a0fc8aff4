"""What may import what, and that the documentation names only what exists."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmtune import cli
from mmtune.config import build, read_yaml
from mmtune.resources import recipes, resource

ROOT = Path(__file__).parent.parent
MODALITIES = ("mmtune.speech", "mmtune.image")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ["train", "data", "metrics", "adapters", "evaluate"])
def test_shared_packages_name_no_modality(package: str) -> None:
    files = sorted((ROOT / "mmtune" / package).glob("**/*.py"))
    assert files
    found = {
        (path.name, name) for path in files for name in imports(path) if name.startswith(MODALITIES)
    }
    allowed = ALLOWED.get(package, set())
    assert {file for file, _ in found} <= allowed, found


# A metric of one kind of data may read that kind's row; the loop may not.
ALLOWED: dict[str, set[str]] = {
    "metrics": {
        "aligned.py",
        "critical.py",
        "nearest.py",
        "style.py",
        "terms.py",
        "variants.py",
        "wer.py",
    }
}


def test_the_loop_loads_no_modality() -> None:
    code = (
        "import sys, pkgutil, importlib, mmtune.train\n"
        "for module in pkgutil.iter_modules(mmtune.train.__path__):\n"
        "    importlib.import_module(f'mmtune.train.{module.name}')\n"
        "print(*[m for m in sys.modules if m.startswith(('mmtune.speech', 'mmtune.image'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == []


def test_no_module_asks_which_modality_it_is() -> None:
    shared = [
        path
        for path in (ROOT / "mmtune").rglob("*.py")
        if not {"speech", "image"} & set(path.relative_to(ROOT).parts)
    ]
    for path in shared:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                assert not {"speech", "image"} & {c for c in constants if isinstance(c, str)} or (
                    path.name == "report.py"
                ), f"{path}:{node.lineno}"


def test_recipes_load_and_have_their_three_files() -> None:
    assert {"terminology", "brand_style"} <= set(recipes())
    for name in recipes():
        folder = resource("recipes", name)
        assert (folder / f"{name}.py").exists()
        assert (folder / "README.md").exists()
        config = build(read_yaml(folder / "recipe.yaml"), name, {})
        assert config.recipe == name


def commands_in(page: Path) -> list[str]:
    """Lines of a page's code blocks that start `mmtune` or `make`."""
    found = []
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(), re.M | re.S):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            line = line.removeprefix("$ ").split("  #")[0].strip()
            if line.startswith(("mmtune ", "make ")):
                found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_commands_that_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    parser = cli._parser()
    copies: dict[str, str] = {}  # what `mmtune init` made on this page
    for line in commands_in(page):
        words = shlex.split(line)
        if words[0] == "make":
            assert set(words[1:]) <= targets, line
        elif words[1] == "train":
            recipe, settings = cli.split_settings(words[2:])
            recipe = copies.get(recipe.removesuffix("/recipe.yaml"), recipe)
            path = resource("recipes", recipe) / "recipe.yaml"
            build(read_yaml(path), line, settings)
        elif words[1:] not in (["--help"], ["--version"]):
            options = parser.parse_args(words[1:])
            if words[1] == "init":
                copies[str(options.to or options.recipe)] = options.recipe


def test_every_kind_of_finding_is_described() -> None:
    made = re.compile(r"(?:Finding|AudioFault|ImageFault)\(\s*\"([a-z-]+)\"")
    kinds = {k for path in (ROOT / "mmtune").rglob("*.py") for k in made.findall(path.read_text())}
    assert len(kinds) > 15
    table = (ROOT / "docs" / "data.md").read_text()
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in table] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_or_module_names_this_machine() -> None:
    for path in [*PAGES, *(ROOT / "mmtune").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]:
        text = path.read_text()
        assert str(ROOT) not in text, path
        assert str(Path.home()) not in text, path
