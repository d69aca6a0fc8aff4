"""What may import what, and that the documentation names only what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune import cli
from mmtune.cli.run_commands import split_settings
from mmtune.config import read_yaml
from mmtune.runs.recipes import configure
from mmtune.system.resources import recipes, resource
from tests.architecture import modules_of, problems

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_packages_import_only_what_lies_below_them() -> None:
    assert problems(ROOT) == []


PLANTED = {
    "an absolute import": ("data/a.py", "from mmtune.training import loop"),
    "a relative import": ("data/a.py", "from ..train import loop"),
    "an import in a function": ("data/a.py", "def f():\n    import mmtune.training.loop"),
    "an import for types": (
        "data/a.py",
        "import typing\nif typing.TYPE_CHECKING:\n    from mmtune.training.loop import x",
    ),
    "a name to import": (
        "data/a.py",
        "import importlib\nimportlib.import_module('mmtune.training.loop')",
    ),
    "a table of names": ("data/a.py", "LAZY = {'fit': 'mmtune.training.loop:fit'}"),
    "one modality in the other": ("speech/a.py", "from mmtune.image import b"),
    "a page in a modality": ("speech/a.py", "from mmtune.pages import report"),
    "shared code that names a modality": ("data/a.py", "def f(kind):\n    return kind == 'speech'"),
    "shared code that asks for one": ("evaluation/a.py", "from mmtune.runs.modalities import find"),
    "a package that is in no line of the table": ("other/a.py", "from mmtune import errors"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_violation_is_found(kind: str, tmp_path: Path) -> None:
    file, code = PLANTED[kind]
    sound = {
        "__init__.py": "",
        "errors.py": "",
        "training/loop.py": "from mmtune.data import rows",
        "data/rows.py": "import mmtune.errors",
        "image/b.py": "",
        "pages/report.py": "",
        "runs/modalities.py": "TABLE = {'speech': 'mmtune.speech.c'}",
        "speech/c.py": "",
    }
    for name, text in sound.items():
        path = tmp_path / "mmtune" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    assert problems(tmp_path) == []
    path = tmp_path / "mmtune" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    assert problems(tmp_path) != []


def test_a_planted_loop_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "mmtune" / "data"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("from mmtune.data import b")
    (folder / "b.py").write_text("def f():\n    from mmtune.data.a import x")
    assert [line for line in problems(tmp_path) if line.startswith("loop")]


def test_a_planted_entry_point_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "mmtune" / "training"
    folder.mkdir(parents=True)
    (folder / "loop.py").touch()
    text = '[project.entry-points."mmtune.metrics"]\nloss = "mmtune.training.loop:fit"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert len(problems(tmp_path)) == 1


def test_no_two_modules_share_a_name_but_a_speech_and_an_image_one() -> None:
    by_name: dict[str, list[str]] = {}
    for module, path in modules_of(ROOT).items():
        if path.name not in {"__init__.py", "__main__.py"}:
            by_name.setdefault(path.stem, []).append(module)
    for name, modules in by_name.items():
        packages = sorted(module.split(".")[1] for module in modules)
        assert len(modules) == 1 or packages == ["image", "speech"], f"{name}: {modules}"


def test_the_loop_loads_no_modality() -> None:
    code = (
        "import sys, pkgutil, importlib\n"
        "package = importlib.import_module('mmtune.training')\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'mmtune.training.{module.name}')\n"
        "print(*[m for m in sys.modules if m.startswith(('mmtune.speech', 'mmtune.image'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == []


def test_recipes_load_and_have_their_three_files() -> None:
    assert {"terminology", "brand_style"} <= set(recipes())
    for name in recipes():
        folder = resource("recipes", name)
        assert (folder / f"{name}.py").exists()
        assert (folder / "README.md").exists()
        config = configure(read_yaml(folder / "recipe.yaml"), name, {})
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
    copies: dict[str, str] = {}  # what `mmtune init` made on this page
    for line in commands_in(page):
        words = shlex.split(line)
        if words[0] == "make":
            assert set(words[1:]) <= targets, line
        elif words[1] == "train":
            recipe, settings = split_settings(words[2:])
            recipe = copies.get(recipe.removesuffix("/recipe.yaml"), recipe)
            path = resource("recipes", recipe) / "recipe.yaml"
            configure(read_yaml(path), line, settings)
        elif words[1:] not in (["--help"], ["--version"]):
            _, options = cli.parse(words[1:])
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
