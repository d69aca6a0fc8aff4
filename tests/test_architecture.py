"""What may import what, that recipes are whole, and that every finding is described."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.config import read_yaml
from mmtune.runs.recipes import configure
from mmtune.system.resources import recipes, resource
from tests.architecture import modules_of, problems

ROOT = Path(__file__).parent.parent


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


def test_every_kind_of_finding_is_described() -> None:
    made = re.compile(r"(?:Finding|AudioFault|ImageFault)\(\s*\"([a-z-]+)\"")
    kinds = {k for path in (ROOT / "mmtune").rglob("*.py") for k in made.findall(path.read_text())}
    assert len(kinds) > 15
    table = (ROOT / "docs" / "data.md").read_text()
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in table] == []


def test_no_module_names_this_machine() -> None:
    for path in [*(ROOT / "mmtune").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]:
        text = path.read_text()
        assert str(ROOT) not in text, path
        assert str(Path.home()) not in text, path
