"""The ledger of an intake: each file and line that a source holds is used, or has a finding.

Readers say what they read (`Used`) and what they guessed (`Guess`). What nobody accounts for gets a
finding by its kind, so nothing is ignored in silence.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.rows import Finding, Severity
from mmtune.system.contents import SPLITS_FILE, VERSIONS
from mmtune.system.pointers import pointer_at
from mmtune.system.stored import exists, opened

OWN = ("import.json", "left_out.jsonl")  # what `mmtune import` writes beside a manifest
# Files and folders that programs leave behind. Nothing in such a folder is looked at.
LITTER = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "@recycle", "icon\r", "lost+found"),
)
MAX_LINK = 1024  # bytes of a text that may be a link's path
LITTER_BEGINS = (".", "__macosx", "~$")  # hidden; what macOS writes into archives; Office's locks
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather")
SHEETS = (".xls", ".xlsx", ".ods", ".numbers")
TEXTS = (".txt", ".caption", ".lab", ".stm", ".ctm", ".trn")
CUES = (".srt", ".vtt", ".ass", ".ssa", ".sub", ".sbv", ".ttml", ".dfxp", ".textgrid", ".eaf")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".ark")


@dataclass(frozen=True)
class Used:
    """A file that was read.

    Attributes:
        path: the file.
        items: rows, cues or lines that it holds; 0 for a file that is used as a whole.
        used: how many of them were used, if the rows that are made of it don't tell.
    """

    path: Path
    items: int = 0
    used: int | None = None


@dataclass(frozen=True)
class Guess:
    """A value that the source doesn't state.

    Attributes:
        what: the row's field, or a property of a file: "split", "caption", "separator" …
        value: what was taken.
        source: what it was taken from.
        rows: for how many rows.
        first: the first of them.
    """

    what: str
    value: str
    source: str
    rows: int = 1
    first: str = ""

    def describe(self) -> str:
        """One line for a summary."""
        rows = f" ({self.rows:,} rows, first {self.first})" if self.rows > 1 else ""
        return f"guessed {self.what} {self.value!r}: {self.source}{rows}"


@dataclass(frozen=True)
class Reason:
    """Why a file isn't used."""

    kind: str
    found: str
    cure: str
    severity: Severity = "warning"


@dataclass
class Items:
    """The lines of a file: all of them are used or left out."""

    found: int = 0
    used: int = 0
    left_out: int = 0


class Ledger:
    """Accounts for the files below folders, and for the lines of the files that were read.

    Args:
        folders: the folders to account for; of a file that lies elsewhere only lines are counted.
        root: files are named by their place in it.
    """

    def __init__(self, folders: Sequence[Path] = (), root: Path | None = None) -> None:
        self.root = os.path.realpath(root) + os.sep if root else ""
        self.files: dict[str, Path] = {}  # by name: its path
        self.state: dict[str, str] = {}  # by name: "used" or "left out"
        self.items: dict[str, Items] = {}  # by the name of a file with lines
        self.guesses: dict[tuple[str, str, str], Guess] = {}
        self.places: dict[str, tuple[str, int | None]] = {}  # file and line of each row, by its id
        self._names: dict[str, str] = {}  # names by real path
        self._known: dict[str, str] = {}  # names by path as it was asked for
        self._refused: dict[str, Reason] = {}
        for number, folder in enumerate(folders):
            self._walk(folder, prefix=f"{folder}/" if number else "")

    def copy(self) -> Ledger:
        """A ledger that learns further guesses by itself; all else is shared."""
        other = copy.copy(self)
        other.guesses = dict(self.guesses)
        return other

    def add_folder(
        self, folder: Path, suffixes: Sequence[str] = (), without: Path | None = None
    ) -> None:
        """Account for the files below another folder, too; their names begin with the folder.

        Args:
            folder: the folder.
            suffixes: the files to account for, by their suffix in small letters; empty: all.
            without: a folder in it that isn't looked at.
        """
        self._walk(folder, f"{folder}/", suffixes, without)

    def use(self, used: Used) -> None:
        """Mark a file as used, and count its lines."""
        name = self.name_of(used.path)
        if name in self.files:
            self.state[name] = "used"
        if used.items:
            items = self.items.setdefault(name, Items())
            items.found += used.items
            items.used += used.used or 0

    def use_items(self, path: Path | str, count: int) -> None:
        """Count lines of a file that became rows."""
        if count and str(path):
            self.items.setdefault(self.name_of(path), Items()).used += count

    def leave(self, path: Path | str, count: int = 0) -> None:
        """Count lines of a file that have a finding; without a count, the file itself has one."""
        name = self.name_of(path)
        if count:
            self.items.setdefault(name, Items()).left_out += count
        elif name in self.files:
            self.state.setdefault(name, "left out")

    def guess(self, guess: Guess) -> None:
        """Note a guessed value; equal ones are counted together."""
        key = (guess.what, guess.value, guess.source)
        if (known := self.guesses.get(key)) is not None:
            guess = Guess(*key, known.rows + guess.rows, known.first)
        self.guesses[key] = guess

    def name_of(self, path: Path | str) -> str:
        """The name of a file in the ledger: its place in the folder, or else its path."""
        if isinstance(path, str) and (not path or path in self.files):
            return path
        if (name := self._known.get(str(path))) is None:
            name = self._known[str(path)] = self._find_name(path)
        return name

    def _find_name(self, path: Path | str) -> str:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return str(path)
        # Links of its folders are resolved; if the file itself is a link, it is not.
        own = os.path.realpath(Path(path).parent) + os.sep + Path(path).name
        known = self._names.get(own) or self._names.get(real)
        if known is None and self.root and own.startswith(self.root):
            known = Path(own.removeprefix(self.root)).as_posix()
        return known or str(path)

    def findings(
        self, reason_of: Callable[[Path], Reason | None] = lambda path: None
    ) -> list[Finding]:
        """Make a finding for each file that nobody accounted for, and mark it as left out.

        Args:
            reason_of: gives the reader's reason for a file; None takes that of the file's kind.
        """
        return [
            Finding(why.kind, name, why.found, why.cure, why.severity, file=name)
            for name, why in self._unused(reason_of)
        ]

    def counts(self) -> dict[str, int]:
        """How many files were found, used and left out."""
        states = list(self.state.values())
        used = states.count("used")
        return {"found": len(self.files), "used": used, "left_out": len(states) - used}

    def _unused(self, reason_of: Callable[[Path], Reason | None]) -> Iterator[tuple[str, Reason]]:
        for name in sorted(self.files):
            if name in self.state:
                continue
            path = self.files[name]
            self.state[name] = "left out"
            refused = self._refused.get(name) or _pointer(path) or _written_link(path)
            yield name, refused or reason_of(path) or reason_by_kind(path)

    def _walk(
        self, folder: Path, prefix: str, suffixes: Sequence[str] = (), without: Path | None = None
    ) -> None:
        self._known.clear()
        skipped = None if without is None else os.path.realpath(without)

        def unreadable(error: OSError) -> None:
            path = Path(error.filename or folder)
            self._add(
                path,
                folder,
                prefix,
                Reason(
                    "unreadable-folder",
                    f"the folder can't be read: {error.strerror or error}",
                    "allow reading it, or move it elsewhere",
                    "error",
                ),
            )

        for parent, folders, names in os.walk(folder, onerror=unreadable):
            folders[:] = [n for n in folders if not n.endswith(VERSIONS)]  # mmtune's own log
            if skipped is not None:
                folders[:] = [n for n in folders if os.path.realpath(Path(parent, n)) != skipped]
            for name in sorted(folders):
                path = Path(parent, name)
                if suffixes:  # its files are looked for, and not all that is there
                    continue
                if is_litter(name):
                    self._add(path, folder, prefix, HIDDEN)
                elif path.is_symlink():
                    self._add(path, folder, prefix, LINK)
            folders[:] = sorted(
                n for n in folders if not is_litter(n) and not Path(parent, n).is_symlink()
            )
            for name in sorted(names):
                path = Path(parent, name)
                if suffixes and (is_litter(name) or path.suffix.lower() not in suffixes):
                    continue
                self._add(path, folder, prefix, _refused(path))

    def _add(self, path: Path, folder: Path, prefix: str, refused: Reason | None) -> None:
        name = prefix + path.relative_to(folder).as_posix()
        if refused is not None:
            self._refused[name] = refused
        real = os.path.realpath(path.parent) + os.sep + path.name
        if self._names.setdefault(real, name) == name:
            self.files[name] = path


HIDDEN = Reason(
    "hidden",
    "hidden files and files of the operating system are skipped",
    "no action is needed; rename it if it belongs to the data",
    "note",
)
SPLITS = Reason(
    "hidden",
    "it keeps the rows of this folder in their splits, and isn't data",
    "no action is needed; copy it along with the data",
    "note",
)
LINK = Reason(
    "link", "it is a link to a folder, which isn't followed", "copy the folder in its place"
)


def is_litter(name: str) -> bool:
    """Whether a file or folder is skipped by its name: hidden, or left behind by a program."""
    return name.casefold().startswith(LITTER_BEGINS) or name.casefold() in LITTER


def reason_by_kind(path: Path) -> Reason:
    """Why a file that no reader took isn't used, by its suffix."""
    suffix = path.suffix.lower()
    describe = "if it describes these files, write its lines into manifest.jsonl"
    if suffix in TABLES:
        return Reason("unused-table", "this table isn't read", describe)
    if suffix in SHEETS:
        return Reason("unused-table", f"{suffix} files aren't read", "save it as CSV")
    if suffix in TEXTS:
        found = "no file that is read has its name"
        return Reason("unused-text", found, "name it after its file, or remove it")
    if suffix in CUES:
        return Reason("unused-subtitles", "these subtitles aren't read", describe)
    if suffix in ARCHIVES:
        return Reason("unused-archive", "archives aren't opened", "unpack it")
    found = f"{suffix} files aren't read" if suffix else "files without a suffix aren't read"
    return Reason("unused-file", found, "no action is needed", "note")


def _refused(path: Path) -> Reason | None:
    """Why a file isn't data, whatever it holds."""
    if path.name.endswith(SPLITS_FILE):
        return SPLITS
    return HIDDEN if is_litter(path.name) else _special(path)


def _pointer(path: Path) -> Reason | None:
    pointer = None if path.is_symlink() else pointer_at(path)  # a link may lead out of the folder
    return None if pointer is None else Reason("lfs-pointer", f"it {pointer.found}", pointer.cure)


def _written_link(path: Path) -> Reason | None:
    """Why a file isn't data that holds a path: Git writes links so where there are none."""
    try:
        if path.is_symlink() or not 0 < path.stat().st_size <= MAX_LINK:
            return None
        with opened(path) as file:
            written = file.read(MAX_LINK).decode("utf-8")
    except (OSError, ValueError):
        return None
    is_place = written.startswith(("../", "./")) and not any(c in written for c in "\n\r\0")
    if not is_place or not exists(path.parent / written):
        return None
    return Reason(
        "link",
        f"it holds the path {written}: a link that was copied as a text",
        f"put the files of {written} in its place",
    )


def _special(path: Path) -> Reason | None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return Reason(
            "unreadable", f"it can't be read: {error.strerror}", "replace it, or remove it"
        )
    if stat.S_ISREG(mode):
        return None
    return Reason("not-a-file", "it is a pipe or a device, not a file", "put a file in its place")


def guessed_lines(guesses: Iterable[Guess], examples: int) -> list[str]:
    """Format guesses: `examples` of each field and source of its values."""
    shown: dict[tuple[str, str], list[Guess]] = {}
    for guess in guesses:
        shown.setdefault((guess.what, guess.source), []).append(guess)
    lines = []
    for group in shown.values():
        lines += [guess.describe() for guess in group[:examples]]
        if len(group) > examples:
            rows = sum(guess.rows for guess in group[examples:])
            lines.append(f"guessed {group[0].what}: {rows:,} more rows, {group[0].source}")
    return lines
