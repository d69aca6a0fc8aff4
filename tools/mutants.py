"""Make mutants of Python files: small changes of the syntax tree that some test should notice.

Strings, annotations, f-strings and what is raised are left alone: a test of a message's words says
little. Each mutant is one change of one place.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SHOWN = 70  # characters of a change in a mutant's name
COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTE = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
CALLED = {
    "min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil",
    "argmax": "argmin", "argmin": "argmax", "maximum": "minimum", "minimum": "maximum",
    "startswith": "endswith", "endswith": "startswith", "lstrip": "rstrip", "rstrip": "lstrip",
    "lower": "upper", "casefold": "upper", "sorted": "list", "reversed": "list", "round": "int",
    "isdisjoint": "issuperset", "issubset": "issuperset", "mean": "sum", "median": "min",
}  # fmt: skip
DROPPED = {"abs", "square", "unique"}  # f(x) becomes x
NO_LOCK = '__import__("contextlib").nullcontext()'


@dataclass(frozen=True)
class Mutant:
    """One change of a file.

    Attributes:
        file: the file, relative to the tree.
        owner: qualified name of the function or class; empty at the top of the file.
        first, last: the lines that are changed.
        start, end: the bytes that `text` replaces.
        text: what stands there instead.
        change: both in short.
        number: its place among equal changes of the same owner, from 1.
        at_import: whether the place is executed when the file is imported.
    """

    file: str
    owner: str
    first: int
    last: int
    start: int
    end: int
    text: str
    change: str
    number: int
    at_import: bool

    @property
    def name(self) -> str:
        """A name that stays when other lines of the file change."""
        place = f" ({self.number})" if self.number > 1 else ""
        return f"{self.file} {self.owner or 'module'}: {self.change}{place}"

    def applied(self, source: bytes) -> bytes:
        """Return the file with this change.

        Raises:
            SyntaxError: the changed file is no Python.
        """
        changed = source[: self.start] + self.text.encode() + source[self.end :]
        ast.parse(changed)
        return changed


def mutants_of(file: str, root: Path) -> list[Mutant]:
    """Make all mutants of one file, in the order of their places."""
    source = (root / file).read_bytes()
    walk = _Walk(file, source)
    walk.visit(ast.parse(source))
    return walk.found


class _Walk(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.found: list[Mutant] = []
        self.owners: list[str] = []
        self.depth = 0  # of functions
        self.counted: Counter[tuple[str, str]] = Counter()
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def add(self, node: ast.AST, text: str, shown: str | None = None) -> None:
        first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
        start = self.starts[first - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self.starts[last - 1] + node.end_col_offset  # type: ignore[attr-defined]
        old = _short(self.source[start:end].decode())
        change = f"{old} -> {_short(shown or text)}"
        owner = ".".join(self.owners)
        self.counted[owner, change] += 1
        number = self.counted[owner, change]
        self.found.append(
            Mutant(
                self.file, owner, first, last, start, end, text, change, number, not self.depth
            )
        )  # fmt: skip

    def change(self, node: ast.AST, alter: Callable[[ast.AST], None]) -> None:
        """Add the node with one alteration; parentheses keep its place in the expression."""
        other = copy.deepcopy(node)
        alter(other)
        text = ast.unparse(other)
        self.add(node, f"({text})", text)

    # --- what is passed over ---

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # zip's: an assertion that never fails
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    # --- owners ---

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(ast.unparse(base).startswith("Protocol") for base in node.bases):
            return
        self.owners.append(node.name)
        for each in node.body:
            self.visit(each)
        self.owners.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.owners.append(node.name)
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self.depth += 1
        for each in node.body:
            self.visit(each)
        self.depth -= 1
        self.owners.pop()

    # --- statements ---

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.add(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        if "__all__" in names:
            return
        if self.depth and all(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets):
            self.add(node, "pass")
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "pass")
        if type(node.op) in COMPUTE:
            other = copy.deepcopy(node)
            other.op = COMPUTE[type(node.op)]()
            self.add(node, ast.unparse(other))
        self.visit(node.value)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, "break")

    def visit_Break(self, node: ast.Break) -> None:
        self.add(node, "continue")

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is None and "suppress" not in ast.unparse(item.context_expr):
                self.add(item.context_expr, NO_LOCK, "nullcontext()")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self.negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self.negate(node.test)
            self.generic_visit(node)
        else:
            for each in node.body:
                self.visit(each)

    # --- expressions ---

    def negate(self, test: ast.expr) -> None:
        # Other comparisons become their opposite where they are visited themselves.
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            if isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                self.add(test, f"(not ({ast.unparse(test)}))", f"not ({ast.unparse(test)})")
            return
        self.add(test, f"(not ({ast.unparse(test)}))", f"not ({ast.unparse(test)})")

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.negate(test)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        if len(node.generators) == 1:

            def turn(other: ast.AST) -> None:
                loop = other.generators[0]  # type: ignore[attr-defined]
                loop.iter = ast.parse(f"list({ast.unparse(loop.iter)})[::-1]", mode="eval").body

            self.change(node, turn)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, op in enumerate(node.ops):

            def alter(other: ast.AST, i: int = i, op: ast.cmpop = op) -> None:
                other.ops[i] = COMPARE[type(op)]()  # type: ignore[attr-defined]

            self.change(node, alter)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = (ast.Constant, ast.JoinedStr)
        joined = any(isinstance(n, texts) and not _number(n) for n in (node.left, node.right))
        if type(node.op) in COMPUTE and not joined:

            def alter(other: ast.AST) -> None:
                other.op = COMPUTE[type(node.op)]()  # type: ignore[attr-defined]

            self.change(node, alter)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        def alter(other: ast.AST) -> None:
            other.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()  # type: ignore[attr-defined]

        self.change(node, alter)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        minus = isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant)
        if minus or isinstance(node.op, ast.Not):
            text = ast.unparse(node.operand)
            self.add(node, f"({text})", text)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in DROPPED and len(node.args) == 1 and not node.keywords:
            self.add(node, f"({ast.unparse(node.args[0])})", ast.unparse(node.args[0]))
        elif name in CALLED:

            def alter(other: ast.AST) -> None:
                func = other.func  # type: ignore[attr-defined]
                setattr(func, "id" if isinstance(func, ast.Name) else "attr", CALLED[name])
                if CALLED[name] == "list":
                    other.keywords = []  # type: ignore[attr-defined]

            self.change(node, alter)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if "Literal" in ast.unparse(node.value):
            return
        cut = node.slice
        if isinstance(cut, ast.Slice) and (cut.lower is None) != (cut.upper is None):

            def alter(other: ast.AST) -> None:
                end = other.slice  # type: ignore[attr-defined]
                end.lower, end.upper = end.upper, end.lower

            self.change(node, alter)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self.add(node, repr(node.value + 1))


def _number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def in_tree(root: Path, patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the Python files below `root` that a pattern names, each once, in order."""
    found = {path for pattern in patterns for path in root.glob(pattern)}
    for path in sorted(found):
        if path.suffix == ".py":
            yield path.relative_to(root).as_posix()
