"""Split a dataset without leakage: rows that share a speaker, sentence or subject stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from mmtune.data.row_keys import KnownKeys, binding_keys, kind_of
from mmtune.data.rows import Finding, Row, Split
from mmtune.system.hashing import hash_text

R = TypeVar("R", bound=Row)
Links = Sequence[tuple[str, str]]  # ids of two rows that must be in the same split
# Of two rows that share a key across splits, the one in the later split is left out: a trained row
# does harm in the test, and the test is worth more than the validation.
PRECEDENCE: tuple[Split, ...] = ("train", "test", "validation")


@dataclass
class Assigned(Generic[R]):
    """Rows with their splits.

    Attributes:
        rows: the rows that are in a split, in the order given.
        left_out: ids of the rows that would leak; each has a finding.
        findings: about rows that are left out, and splits that would be empty.
        declared: ids of the rows whose split the data names.
        drawn: ids of rows that the data names as train and that became validation rows.
    """

    rows: list[R]
    left_out: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)
    drawn: list[str] = field(default_factory=list)

    @property
    def refused(self) -> list[Finding]:
        """The findings for which training refuses the rows."""
        return [finding for finding in self.findings if finding.kind == "split-refused"]


def assign(
    rows: Sequence[R],
    validation: float,
    test: float,
    seed: int = 0,
    links: Links = (),
    *,
    known: KnownKeys | None = None,
    root: Path | None = None,
    shared: Collection[str] = (),
    keep_leaks: bool = False,
) -> Assigned[R]:
    """Assign a split to every row; rows that would leak between splits are left out.

    1. A row whose split the data names stays in it. If it shares a key with a row of a split that
       precedes its own (`PRECEDENCE`), it is left out. A test row that a run has trained on is
       left out, too.
    2. A row that was in a split before stays in it, as do new rows that share a key with such rows.
       A row whose keys are in several splits is left out.
    3. Of the others, those that `leakage_keys` and `links` connect, directly or through other rows,
       form one component. The hash of its key decides its split.

    A split that the data names gets no more rows by 3. Where the data names train and test for all
    rows, the validation is drawn from train.

    Args:
        rows: all rows of the dataset.
        validation: share of the rows without a split that go to validation.
        test: share of the rows without a split that go to the test.
        seed: random seed of the assignment.
        links: further pairs of rows to keep together; unknown ids are ignored.
        known: the keys of rows that had a split before.
        root: the folder of the data (`own_keys`).
        shared: kinds of keys that splits may share: they connect nothing.
        keep_leaks: leave out no row, and draw no validation from train. Earlier versions divided
            the data of their runs so.
    """
    work = _Assignment(
        rows,
        {"validation": validation, "test": test},
        links,
        shared,
        known=known or KnownKeys(),
        root=root,
        seed=seed,
        keep_leaks=keep_leaks,
    )
    work.place_declared()
    work.place_known()
    work.place_new()
    return work.result()


@dataclass
class _Assignment(Generic[R]):
    """The rows on their way to a split; the arguments of `assign`, and what is found out.

    Attributes:
        place: the split of each row that has one by now.
        out: rows that are left out, each with its finding.
        owner: by key: a row that is placed and has it.
        pool: rows named as train, of which some become validation.
        refused: splits that would lose all their rows.
    """

    rows: Sequence[R]
    shares: Mapping[Split, float]
    links: Links
    shared: Collection[str]
    known: KnownKeys
    root: Path | None
    seed: int
    keep_leaks: bool
    place: list[Split | None] = field(init=False)
    out: dict[int, Finding] = field(default_factory=dict, init=False)
    owner: dict[str, int] = field(default_factory=dict, init=False)
    pool: set[int] = field(default_factory=set, init=False)
    refused: list[Finding] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.place = [None] * len(self.rows)
        self.named = {row.split for row in self.rows} - {None}
        self.keys = [list(binding_keys(row, self.shared)) for row in self.rows]
        self.pairs: set[str] = set()  # keys of links
        index = {row.id: i for i, row in enumerate(self.rows)}
        for one, other in self.links:
            if one in index and other in index:
                key = f"link {one} {other}"
                self.pairs.add(key)
                self.keys[index[one]].append(key)
                self.keys[index[other]].append(key)

    def place_declared(self) -> None:
        """Place the rows whose split the data names, unless they leak."""
        for split in PRECEDENCE:
            mine = [i for i, row in enumerate(self.rows) if row.split == split]
            for i in mine:
                if self.keep_leaks:
                    self._put(i, split)
                elif split == "test" and self.known.was_trained(self.rows[i], self.root):
                    self.out[i] = _was_trained(self.rows[i])
                elif clash := self._others(i, split, known=False):
                    self.out[i] = self._leak(i, split, *clash[0])
                else:
                    self._put(i, split)
            if mine and all(i in self.out for i in mine):
                self.refused.append(_refusal(split, len(mine), self.out[mine[0]]))
        if (
            self.shares["validation"] > 0
            and not self.keep_leaks
            and None not in {row.split for row in self.rows}
            and self.named == {"train", "test"}
        ):
            self.pool = {i for i, split in enumerate(self.place) if split == "train"}
            self.owner = {k: i for k, i in self.owner.items() if i not in self.pool}
            for i in self.pool:
                self.place[i] = None

    def place_known(self) -> None:
        """Place the rows that had a split before, unless they share a key with another split."""
        own = {i: self.known.own_side(self.rows[i], self.root) for i in self._open()}
        for split in PRECEDENCE:
            for i, side in own.items():
                if side is None or self._side(side) != split:
                    continue
                if clash := self._others(i, split):
                    self.out[i] = self._leak(i, split, *clash[0])
                else:
                    self._put(i, split)

    def place_new(self) -> None:
        """Place new rows with those that they share keys with, and the others by hash."""
        new = self._open()
        fresh: list[list[int]] = []
        for members in components([self.keys[i] for i in new]):
            group = [new[i] for i in members]
            touched = {i: self._touched(i) for i in group}
            sides = {side for each in touched.values() for side in each}
            target = next((split for split in PRECEDENCE if split in sides), None)
            if target is None:
                fresh.append(group)
                continue
            if self.keep_leaks:
                target = target if len(sides) == 1 else "train"
                touched.clear()
            for i, keys in touched.items():
                if clash := [each for side, each in keys.items() if side != target]:
                    self.out[i] = self._leak(i, target, *clash[0])
            for i in group:
                if i not in self.out:
                    self._put(i, target)
        for split, group in self._draw(fresh):
            for i in group:
                self._put(i, split)

    def result(self) -> Assigned[R]:
        """The rows that have a split, and what is to be said of the others."""
        kept = [
            row if row.split == split else row.model_copy(update={"split": split})
            for row, split in zip(self.rows, self.place, strict=True)
            if split is not None
        ]
        declared = {
            row.id
            for i, row in enumerate(self.rows)
            if row.split is not None and i not in self.pool
        }
        drawn = [self.rows[i].id for i in sorted(self.pool) if self.place[i] == "validation"]
        left_out = [self.rows[i].id for i in sorted(self.out)]
        findings = [self.out[i] for i in sorted(self.out)] + self.refused
        return Assigned(kept, left_out, findings, declared, drawn)

    def _open(self) -> list[int]:
        return [i for i, split in enumerate(self.place) if split is None and i not in self.out]

    def _put(self, i: int, split: Split) -> None:
        self.place[i] = split
        for key in self.keys[i]:
            self.owner.setdefault(key, i)

    def _side(self, side: Split) -> Split:
        """The split for what was in `side` before."""
        if self.pool and side == "test":  # the data names the row as train now
            return "train"
        if side != "train" and side not in self.named and self.shares[side] <= 0:
            return "train"  # the settings want no such split
        return side

    def _touched(self, i: int, *, known: bool = True) -> dict[Split, tuple[str, int | None]]:
        """The splits that the row's keys are in, each with a key and the placed row that has it."""
        found: dict[Split, tuple[str, int | None]] = {}
        for key in self.keys[i]:
            if (other := self.owner.get(key)) is not None:
                side = self.place[other]
                assert side is not None
                found.setdefault(side, (key, other))
            if known and (before := self.known.side_of(key)) is not None:
                found.setdefault(self._side(before), (key, None))
        return found

    def _others(self, i: int, own: Split, *, known: bool = True) -> list[tuple[str, int | None]]:
        touched = self._touched(i, known=known)
        return [each for side, each in touched.items() if side != own]

    def _draw(self, fresh: Sequence[list[int]]) -> list[tuple[Split, list[int]]]:
        free = [(self._position(members), members) for members in fresh]
        shares = {
            split: 0.0 if split in self.named or (self.pool and split == "test") else share
            for split, share in self.shares.items()
        }
        placed = Counter(
            split
            for i, split in enumerate(self.place)
            if split is not None and (self.rows[i].split is None or i in self.pool)
        )
        return _draw(free, {"test": shares["test"], "validation": shares["validation"]}, placed)

    def _position(self, members: Sequence[int]) -> float:
        # The first key of a row is the most stable one (the speaker comes before the sentence). The
        # smallest hash names the component. It is hashed again because the smallest of many hashes
        # is nearly always small, which would favour the test split.
        keys = {
            next((key for key in self.keys[i] if key not in self.pairs), f"row {self.rows[i].id}")
            for i in members
        }
        least = min(hash_text(f"{self.seed}|{key}") for key in keys)
        return int(hash_text(least)[:13], 16) / 16**13

    def _leak(self, i: int, own: Split, key: str, other: int | None) -> Finding:
        """The finding for a row that is left out of `own`, because another split has its key."""
        row, kind = self.rows[i], kind_of(key)
        cure = f"correct the {kind}; if splits may share a {kind}: --shared {kind} (data.shared)"
        if other is None:  # no row has it in the other split, so there is none to change
            side = self._side(self.known.side_of(key) or "train")
            found = f"{key!r} is in {side} (by the split ledger) and {own} (row {row.id})"
        elif key in self.pairs:
            first = f"{self.rows[other].id!r} ({self.place[other]})"
            found = f"rows {first} and {row.id!r} ({own}) are nearly the same"
            cure = "remove one of them, or give both the same 'split'"
        else:
            where = f"{self.place[other]} (row {self.rows[other].id})"
            found = f"{key!r} is in {where} and {own} (row {row.id})"
            cure = f"give both the same 'split', or {cure}"
        message = f"{found}: the row of {own} is left out"
        return Finding("leakage", row.id, message, cure, "warning")


def components(keys: Sequence[Iterable[str]]) -> list[list[int]]:
    """Group what shares a key, directly or through others.

    Args:
        keys: the keys of each item.

    Returns:
        The items' indices by component, ordered by first index.
    """
    parent = list(range(len(keys)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    owner: dict[str, int] = {}
    for i, mine in enumerate(keys):
        for key in mine:
            a, b = sorted((find(owner.setdefault(key, i)), find(i)))
            parent[b] = a
    groups: dict[int, list[int]] = {}
    for i in range(len(keys)):
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())


def shared_by_splits(rows: Sequence[Row], shared: Collection[str]) -> list[Finding]:
    """Note for each kind in `shared` how many of its keys are in several splits."""
    if not shared:
        return []
    first: dict[str, dict[str, str]] = {}
    for row in rows:
        for key in row.leakage_keys:
            if kind_of(key) in shared:
                first.setdefault(key, {}).setdefault(str(row.split), row.id)
    both = {key: owners for key, owners in first.items() if len(owners) > 1}
    findings = []
    for kind, count in Counter(map(kind_of, both)).items():
        key = next(key for key in both if kind_of(key) == kind)
        places = " and ".join(f"{split} (row {row})" for split, row in both[key].items())
        findings.append(
            Finding(
                "shared",
                "all rows",
                f"data.shared allows it: splits share a {kind} {count} times; {key!r} is in "
                f"{places}. The result holds for what they share, not for others",
                f"no action is needed; leave {kind} out of data.shared to measure on others",
                "note",
            )
        )
    return findings


def missing_splits(rows: Sequence[Row], wanted: Iterable[tuple[Split, float]]) -> list[Finding]:
    """Warn about each split that should have rows but got none."""
    present = {row.split for row in rows}
    return [
        Finding(
            f"no-{split}",
            "all rows",
            f"no row could be held out for {split}: there are too few rows, a shared speaker, "
            "sentence or subject connects them, or all rows name another split",
            f"add rows of other speakers or subjects, give some rows the split {split!r}, or set "
            f"data.{split} to 0",
            "warning",
        )
        for split, share in wanted
        if share > 0 and split not in present
    ]


def _was_trained(row: Row) -> Finding:
    return Finding(
        "trained",
        row.id,
        f"row {row.id!r} is named as test, but a run has trained on it (by the split ledger): it "
        "is left out",
        "name rows for the test that no run has trained on",
        "warning",
    )


def _refusal(split: Split, count: int, first: Finding) -> Finding:
    rows = "the only row" if count == 1 else f"each of the {count} rows"
    return Finding(
        "split-refused",
        "all rows",
        f"{rows} of {split} would have to be left out; the first: {first.message}",
        first.cure,
    )


def _draw(
    free: Sequence[tuple[float, list[int]]], shares: dict[Split, float], placed: Mapping[Split, int]
) -> list[tuple[Split, list[int]]]:
    """Draw components for the splits.

    Args:
        free: the position of each component, from 0 to 1, and its rows.
        shares: of the held-out splits.
        placed: how many rows each split has already.
    """
    total = sum(len(members) for _, members in free) + sum(placed.values())
    large = max(1.0, 2 * max(shares.values()) * total)
    drawn: list[tuple[Split, list[int]]] = []
    train: list[tuple[bool, float, list[int]]] = []
    for position, members in sorted(free, key=lambda pair: (pair[0], pair[1])):
        split: Split = "train"
        if len(members) <= large:  # a larger component could empty the training set
            if position < shares["test"]:
                split = "test"
            elif position < shares["test"] + shares["validation"]:
                split = "validation"
        if split == "train":
            train.append((len(members) > large, position, members))
        else:
            drawn.append((split, members))
    # With few components a split may get too few rows. The next ones fill it to half its share.
    train.sort(key=lambda entry: (entry[0], entry[1], entry[2]))
    least = 0 if placed.get("train") else 1  # components that must stay in train
    for split, share in shares.items():
        held = placed.get(split, 0)
        held += sum(len(members) for name, members in drawn if name == split)
        while held < share * total / 2 and len(train) > least:
            members = train.pop(0)[2]
            drawn.append((split, members))
            held += len(members)
    return drawn + [("train", members) for _, _, members in train]
