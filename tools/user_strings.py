"""List every string of the package that a user reads, and compare it with an older commit.

`--against 12f8634 --sample 40 --seed 0` prints 40 of the strings that changed since that commit.
A string is compared with the older string of its kind that is most like it, preferably in the
function of the same name: files may have moved in between.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import random
import re
import subprocess
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("mmtune", "eval")
KINDS = ("help", "error", "finding", "printed", "setting", "docstring", "page", "suite", "text")
NOT_FOR_USERS = {"AssertionError", "NotImplementedError", "RuntimeError", "TypeError", "cast"}
FINDINGS = {"Finding", "AudioFault", "ImageFault"}
ERRORS = {"OutOfMemory", "MissingExtra"}  # beside all names that end with Error
PRINTED, HELP = {"print", "plain", "note"}, {"help", "description", "epilog"}
SIMILAR = 0.45  # strings of different functions that are less alike don't replace each other
SAME_OWNER = 0.2  # the same, of strings in functions of one name


@dataclass(frozen=True)
class Text:
    """One string: where it stands, of which kind, and in which function or class."""

    kind: str
    text: str
    file: str
    line: int
    owner: str

    @property
    def words(self) -> str:
        """The text without what its braces hold: renaming a variable changes no sentence."""
        return re.sub(r"\{[^{}]*\}", "{}", self.text)


def read_tree(commit: str | None = None) -> dict[str, str]:
    """The files that may hold strings, by path: of the working tree, or of `commit`."""
    if commit is None:
        paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
        return {
            path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
            for path in paths
            if _holds_strings(path.as_posix())
        }
    command = ["git", "archive", "--format=tar", commit, *FOLDERS]
    packed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    files = {}
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        for member in archive:
            if _holds_strings(member.name) and (opened := archive.extractfile(member)):
                files[member.name] = opened.read().decode("utf-8")
    return files


def _holds_strings(name: str) -> bool:
    return PurePosixPath(name).suffix in {".py", ".j2", ".js", ".yaml"}


def collect(files: dict[str, str]) -> list[Text]:
    """All strings of `files`, in the order of their files and lines."""
    texts: list[Text] = []
    for name, source in sorted(files.items()):
        if name.endswith(".py"):
            visitor = _Strings(name)
            visitor.visit(ast.parse(source))
            texts += visitor.texts
        else:
            texts += _of_page(name, source)
    return texts


class _Strings(ast.NodeVisitor):
    """Collect a Python file's strings; what stands around a string decides its kind."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.owners: list[str] = []
        self.kind = "text"
        self.texts: list[Text] = []

    def _add(self, kind: str, text: str, line: int) -> None:
        text = " ".join(text.split())
        if text:
            owner = self.owners[-1] if self.owners else PurePosixPath(self.file).stem
            self.texts.append(Text(kind, text, self.file, line, owner))

    def _docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef, public: bool) -> None:
        written = ast.get_docstring(node)
        if written and public:
            self._add("docstring", written.split("\n\n")[0], getattr(node, "lineno", 1))

    def visit_Module(self, node: ast.Module) -> None:
        self._docstring(node, public=True)
        self.generic_visit(node)

    def _definition(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self.owners.append(node.name)
        self._docstring(node, public=not any(name.startswith("_") for name in self.owners))
        outer, self.kind = self.kind, "text"
        self.generic_visit(node)
        self.kind = outer
        self.owners.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _definition

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # docstrings were taken by their owner
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
        if name in NOT_FOR_USERS or name in {"get_logger", "compile", "open"}:
            return
        outer = self.kind
        of_name = {"finding": FINDINGS, "printed": PRINTED, "error": ERRORS}
        kinds = [kind for kind, names in of_name.items() if name in names]
        self.kind = kinds[0] if kinds else "error" if name.endswith("Error") else outer
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        inner = self.kind
        for keyword in node.keywords:
            if keyword.arg in HELP:
                self.kind = "setting" if name == "Field" else "help"
            self.visit(keyword.value)
            self.kind = inner
        self.kind = outer

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and _prose(node.value):
            self._add(self.kind, node.value, node.lineno)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if _prose(" ".join(p.value for p in node.values if isinstance(p, ast.Constant))):
            self._add(self.kind, ast.unparse(node)[2:-1], node.lineno)
        for part in node.values:  # a string within braces may hold words of its own
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)  # keys and quoted types aren't read by users


def _prose(text: str) -> bool:
    """Whether a string has two words, one of them of lower-case letters."""
    words = text.split()
    return len(words) > 1 and any(
        re.fullmatch(r"[(“\"']?[a-z’']{2,}[.,:;?)”\"']?", w) for w in words
    )


def _of_page(name: str, source: str) -> Iterator[Text]:
    owner = PurePosixPath(name).name
    if name.endswith(".yaml"):
        for match in re.finditer(
            r"^\s*(?:- )?asks:\s*(.+(?:\n {6,}[^\s:-][^:\n]*$)*)", source, re.M
        ):
            line = source.count("\n", 0, match.start()) + 1
            yield Text("suite", " ".join(match.group(1).split()), name, line, owner)
        return
    if name.endswith(".js"):
        found = re.finditer(r"([\"'`])((?:(?!\1|\n).)+)\1", source)
        pieces = [(match.start(), match.group(2)) for match in found]
    else:
        code = r"\{%.*?%\}|\{#.*?#\}|<(?:style|script)\b.*?</(?:style|script)>|<[^>]*>"
        bare = re.sub(code, lambda m: re.sub(r"[^\n]", "\0", m.group()), source, flags=re.S)
        pieces = [(match.start(), match.group()) for match in re.finditer(r"[^\0]+", bare)]
    for start, text in pieces:
        if _prose(re.sub(r"\{\{.*?\}\}", "x", text)):
            line = source.count("\n", 0, start + len(text) - len(text.lstrip())) + 1
            yield Text("page", " ".join(text.split()), name, line, owner)


def compare(old: Sequence[Text], new: Sequence[Text]) -> tuple[list[tuple[Text, Text | None]], int]:
    """Pair each string of `new` that isn't in `old` with the string that it replaces.

    Returns:
        Pairs of (new, old or None), and how many old strings were removed.
    """
    left = Counter(text.words for text in old)
    changed = []
    for text in new:
        if left[text.words]:
            left[text.words] -= 1
        else:
            changed.append(text)
    gone: defaultdict[str, list[Text]] = defaultdict(list)
    for text in reversed(old):
        if left[text.words]:
            left[text.words] -= 1
            gone[text.kind].insert(0, text)
    scored = []
    for i, text in enumerate(changed):
        words = text.words.split()
        matcher = difflib.SequenceMatcher(b=words, autojunk=False)
        for j, other in enumerate(gone[text.kind]):
            bound = SAME_OWNER if other.owner == text.owner else SIMILAR
            others = other.words.split()
            shared = len({*words} & {*others})
            if 2 * shared < bound * min(len(words), len(others)):
                continue
            matcher.set_seq1(others)
            if (ratio := matcher.ratio()) >= bound:
                scored.append((ratio + (other.owner == text.owner), i, j))
    before: dict[int, Text] = {}
    used: set[tuple[str, int]] = set()
    for _, i, j in sorted(scored, reverse=True):
        place = changed[i].kind, j
        if i not in before and place not in used:
            before[i] = gone[changed[i].kind][j]
            used.add(place)
    pairs = [(text, before.get(i)) for i, text in enumerate(changed)]
    return pairs, sum(map(len, gone.values())) - len(used)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", action="store_true", help="print totals by kind")
    parser.add_argument("--against", metavar="COMMIT", help="compare with this older commit")
    parser.add_argument("--sample", type=int, metavar="N", help="print N changed strings")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawing (default: 0)")
    options = parser.parse_args(arguments)
    texts = collect(read_tree())
    if options.against:
        pairs, removed = compare(collect(read_tree(options.against)), texts)
        changed = [(new, old) for new, old in pairs if old is not None]
        print(f"{len(texts)} strings; {len(changed)} changed since {options.against}, ", end="")
        print(f"{len(pairs) - len(changed)} new, {removed} removed")
        count = len(changed) if options.sample is None else min(options.sample, len(changed))
        for new, old in random.Random(options.seed).sample(changed, count if options.sample else 0):
            print(f"\n{new.file}:{new.line} ({new.kind})\n- {old.text}\n+ {new.text}")
    elif not options.count:
        for text in texts:
            print(f"{text.file}:{text.line}: {text.kind}: {text.text}")
    if options.count:
        totals = Counter(text.kind for text in texts)
        for kind in KINDS:
            print(f"{totals[kind]:6} {kind}")
        print(f"{len(texts):6} in all")


if __name__ == "__main__":
    main()
