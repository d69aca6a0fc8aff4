"""The rule of layers: which package of mmtune may import which, and a reader of all imports.

`problems(root)` reads every file below `root`/mmtune and returns one line for each import that the
table forbids, each loop among files, and each place where shared code names a modality.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

BELOW_MODALITIES = (
    *(
        "errors",
        "methods",
        "settings",
        "config",
        "system",
        "data",
        "privacy",
        "predict",
        "prefix",
        "metrics",
        "training",
    ),
    *("adapters", "evaluation", "modality"),
)
EVERYTHING = (*BELOW_MODALITIES, "pages", "speech", "image", "runs", "cli")

# A package, and what it may import. "training.log" is one module; each may import itself.
LAYERS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "system": ("errors",),
    "settings": ("errors",),
    "methods": (),
    "config": ("errors", "methods", "settings"),
    "data": ("errors", "config", "system"),
    "privacy": ("errors", "system", "data"),
    "predict": ("data",),
    "prefix": ("errors", "system"),
    "metrics": ("errors", "system", "data", "predict"),
    "training": (
        *("errors", "methods", "config", "system", "data", "predict", "prefix", "metrics"),
    ),
    "adapters": ("errors", "methods", "config", "system", "data", "predict"),
    "evaluation": ("errors", "config", "system", "data", "predict", "metrics"),
    "pages": (
        *(
            "errors",
            "methods",
            "settings",
            "config",
            "system",
            "data",
            "metrics",
            "adapters",
            "evaluation",
        ),
        *("training.log",),
    ),
    "modality": BELOW_MODALITIES,
    "speech": BELOW_MODALITIES,
    "image": BELOW_MODALITIES,
    "runs": (*BELOW_MODALITIES, "pages", "speech", "image"),
    "cli": EVERYTHING,
    "__main__": ("cli",),
    "__init__": EVERYTHING,
}
# Only these know which modalities there are. `runs/modalities.py` holds the table of names.
MAY_NAME_MODALITIES = ("speech", "image", "runs.modalities", "cli", "__init__")
MODALITIES = ("speech", "image")
DOTTED = re.compile(r"mmtune(\.\w+)+(:\w+)?")


def problems(root: Path) -> list[str]:
    """Every violation of the rule below `root`, one line each; empty if there is none."""
    modules = modules_of(root)
    graph = {name: imports_of(name, path, modules) for name, path in modules.items()}
    found = []
    for name, imported in graph.items():
        for other, line in imported:
            if not may_import(name, other):
                found.append(f"{name}:{line} imports {other}")
    found += [f"loop: {' -> '.join(loop)}" for loop in loops(graph)]
    for name, path in modules.items():
        if not within(layer(name), MAY_NAME_MODALITIES):
            found += [f"{name}:{line} names a modality" for line in named_modalities(path)]
    for target in entry_points(root):
        if target and layer(module_in(target, modules)) not in (*MODALITIES, "cli"):
            found.append(f"pyproject.toml: the entry point {target} leads into shared code")
    return found


def modules_of(root: Path) -> dict[str, Path]:
    """All modules of the package by dotted name; a package goes by its own name."""
    found = {}
    for path in sorted((root / "mmtune").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer(name: str) -> str:
    """The module's name without "mmtune." ("__init__" for mmtune itself)."""
    return name.partition(".")[2] or "__init__"


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether the module `name` is one of `packages` or lies in one of them."""
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def may_import(name: str, other: str) -> bool:
    """Whether the table lets the module `name` import the module `other`."""
    own, wanted = layer(name), layer(other)
    package = own.partition(".")[0]
    if package not in LAYERS:
        return False
    return within(wanted, (package, *LAYERS[package]))


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> set[tuple[str, int]]:
    """Modules of mmtune that a file imports anywhere in it, each with its line.

    These count: absolute and relative imports, at the top, inside functions and under
    TYPE_CHECKING; and each string that is a module's dotted name (`import_module("mmtune.x")`,
    tables of names to load when used).
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[tuple[str, int]] = set()

    def add(target: str, line: int) -> None:
        module = module_in(target, modules)
        if module and module != name:
            found.add((module, line))

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - max(node.level - 1, 0)]
            base = ".".join(
                [*(start if node.level else []), *([node.module] if node.module else [])]
            )
            for alias in node.names:
                add(f"{base}.{alias.name}", node.lineno)
        elif isinstance(node, ast.Constant) and DOTTED.fullmatch(str(node.value)):
            target = str(node.value).replace(":", ".")
            # A key such as "mmtune.base" in a file's metadata is no module.
            add("" if module_in(target, modules) == "mmtune" else target, node.lineno)
    return found


def module_in(target: str, modules: dict[str, Path]) -> str:
    """The longest beginning of a dotted name that is a module; empty for another package's."""
    if target.partition(".")[0] != "mmtune":
        return ""
    while target not in modules and "." in target:
        target = target.rpartition(".")[0]
    return target if target in modules else ""


def loops(graph: dict[str, set[tuple[str, int]]]) -> Iterator[list[str]]:
    """Groups of files that import each other in a loop (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other, _ in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    yield from found


def named_modalities(path: Path) -> list[int]:
    """Lines on which a string is a modality's name; docstrings don't count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in MODALITIES
    ]


def entry_points(root: Path) -> list[str]:
    """What pyproject.toml's entry points and scripts lead to, as dotted names."""
    path = root / "pyproject.toml"
    if not path.is_file():
        return []
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    groups = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    return [target.replace(":", ".") for group in groups for target in group.values()]
