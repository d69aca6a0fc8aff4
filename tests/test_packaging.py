"""The wheel is complete: in another environment and folder, nothing leans on the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # hatchling is installed with the test extra: no isolation, so no download.
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(out),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's `bin`, with the wheel installed and the dependencies shared.

    The dependencies (gigabytes) come through a .pth from this environment. Its mmtune, an
    editable install, is one .pth of its own there, and a nested .pth isn't read.
    """
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}))
    pure = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    install = [sys.executable, "-m", "pip", f"--python={scripts / 'python'}", "install"]
    subprocess.run(
        [*install, "--no-deps", "--no-index", "--quiet", str(wheel)], check=True, timeout=300
    )
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (pure / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(shared)))
    return scripts


@pytest.fixture
def elsewhere(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict[str, str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"MMTUNE_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    return tmp_path, environment


def run(
    installed: Path, elsewhere: tuple[Path, dict[str, str]], *arguments: str
) -> subprocess.CompletedProcess[str]:
    folder, environment = elsewhere
    done = subprocess.run(
        [str(installed / "mmtune"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_wheel_holds_recipes_suites_assets_and_the_template(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = "mmtune/_packaged"
    for name in ("terminology", "brand_style", "demo"):
        assert any(n.startswith(f"{packaged}/recipes/{name}/") for n in names), name
    for wanted in (
        f"{packaged}/recipes/terminology/recipe.yaml",
        f"{packaged}/recipes/brand_style/recipe.yaml",
        f"{packaged}/eval/README.md",
        f"{packaged}/eval/terminology.yaml",
        f"{packaged}/eval/brand_style.yaml",
        f"{packaged}/assets/starter-icons/model_index.json",
        "mmtune/pages/report.html.j2",
        "mmtune/pages/report.css",
        "mmtune/pages/plot.html.j2",
        "mmtune/py.typed",
    ):
        assert wanted in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not [n for n in names if "__pycache__" in n or n.startswith(("tests", "runs"))]


def test_the_installed_package_is_the_wheel(
    installed: Path, elsewhere: tuple[Path, dict[str, str]]
) -> None:
    folder, environment = elsewhere
    code = "import mmtune, torch, sys; print(mmtune.__file__); print(*sys.path, sep='\\n')"
    out = subprocess.run(
        [str(installed / "python"), "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()
    assert Path(out[0]).is_relative_to(installed.parent)
    assert str(ROOT) not in out[1:]


@pytest.mark.slow
def test_a_copied_recipe_trains(installed: Path, elsewhere: tuple[Path, dict[str, str]]) -> None:
    folder, _ = elsewhere
    pictures = folder / "our-brand"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for name in ("apple", "pear", "plum", "house", "tree", "boat", "star", "drum", "key", "lamp"):
        pixels = np.full((64, 64, 3), 255, np.uint8)
        pixels[16:48, 16:48] = rng.integers(0, 200, 3)
        Image.fromarray(pixels).save(pictures / f"{name}.png")

    assert "brand_style" in run(installed, elsewhere, "recipes").stdout
    run(installed, elsewhere, "init", "brand_style", "--to", "mine")
    small = ["--epochs", "1", "--batch", "4", "--lora.rank", "2", "--steps", "2"]
    small += [
        "--data.test",
        "0.3",
        "--task.steps",
        "2",
        "--task.seeds",
        "1",
        "--task.validation_images",
        "2",
        "--scales",
        "[1.0]",
    ]
    run(installed, elsewhere, "train", "mine/recipe.yaml", "--data", "our-brand", *small)

    runs = folder / "runs" / "brand_style"
    card = json.loads((runs / "adapter" / "card.json").read_text())
    assert card["steps"] == 2
    assert card["rows"]["train"] >= 4
    assert (runs / "report.html").stat().st_size > 5000
    steps = [json.loads(line) for line in (runs / "log.jsonl").read_text().splitlines()]
    assert any("loss" in entry for entry in steps)
