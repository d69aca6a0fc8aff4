"""The scripts of tools/starter as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "tools" / "starter"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch):
    """The recipe's scripts, which import each other by their short names."""
    names = [path.stem for path in RECIPE.glob("*.py")] + ["openmoji"]
    saved = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(RECIPE))

    def load(name: str):
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        return sys.modules[name]

    yield load
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(saved)
