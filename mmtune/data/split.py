"""Split a dataset without leakage: rows that share a speaker, sentence or subject stay together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from mmtune.data.rows import Finding, Row, Split
from mmtune.system.hashing import hash_text

R = TypeVar("R", bound=Row)
Links = Sequence[tuple[str, str]]  # ids of two rows that must be in the same split


def assign(
    rows: Sequence[R], validation: float, test: float, seed: int = 0, links: Links = ()
) -> list[R]:
    """Assign a split to every row that has none; rows with a split keep it.

    Rows that `leakage_keys` and `links` connect, directly or through other rows, form one
    component, and a component goes to one split as a whole. The hash of its key decides which, so
    rows that are added later don't move the others. A split that the manifest already names is
    taken as complete and gets no more rows.

    Args:
        rows: all rows of the dataset.
        validation: share of the rows without a split that go to validation.
        test: share of the rows without a split that go to the test.
        seed: random seed of the assignment.
        links: further pairs of rows to keep together; unknown ids are ignored.

    Returns:
        All rows in the same order, each with a split.
    """
    named = {row.split for row in rows}
    shares: dict[Split, float] = {
        "test": 0.0 if "test" in named else test,
        "validation": 0.0 if "validation" in named else validation,
    }
    splits: list[Split | None] = [row.split for row in rows]
    free: list[tuple[float, list[int]]] = []
    for members in components(rows, links):
        fixed = {splits[i] for i in members} - {None}
        if not fixed:
            free.append((_position(members, rows, seed), members))
            continue
        joined = fixed.pop() if len(fixed) == 1 else "train"
        for i in members:
            splits[i] = splits[i] or joined
    for split, members in _draw(free, shares):
        for i in members:
            splits[i] = split
    return [
        row if row.split == split else row.model_copy(update={"split": split})
        for row, split in zip(rows, splits, strict=True)
    ]


def components(rows: Sequence[Row], links: Links = ()) -> list[list[int]]:
    """Group the indices of rows that leakage keys or links connect, ordered by first index."""
    parent = list(range(len(rows)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        a, b = sorted((find(i), find(j)))
        parent[b] = a

    owner: dict[str, int] = {}
    for i, row in enumerate(rows):
        for key in row.leakage_keys:
            join(owner.setdefault(key, i), i)
    place = {row.id: i for i, row in enumerate(rows)}
    for one, other in links:
        if one in place and other in place:
            join(place[one], place[other])
    groups: dict[int, list[int]] = {}
    for i in range(len(rows)):
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())


def leaks(rows: Sequence[Row], links: Links = ()) -> list[Finding]:
    """Warn about each leakage key and each link that connects rows of different splits."""
    first: dict[str, dict[str, str]] = {}
    for row in rows:
        for key in row.leakage_keys:
            first.setdefault(key, {}).setdefault(str(row.split), row.id)
    split = {row.id: str(row.split) for row in rows}
    apart = [
        Finding(
            "leakage",
            one,
            f"rows {other!r} ({split[other]}) and {one!r} ({split[one]}) are nearly the same",
            "remove one of them, or give both the same 'split'",
            "warning",
        )
        for one, other in links
        if one in split and other in split and split[one] != split[other]
    ]
    return apart + [
        Finding(
            "leakage",
            next(iter(owners.values())),
            f"{key!r} is in " + " and ".join(f"{s} (row {row})" for s, row in owners.items()),
            "remove 'split' from the rows: mmtune then holds out whole speakers, sentences and "
            "subjects",
            "warning",
        )
        for key, owners in first.items()
        if len(owners) > 1
    ]


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


def _position(members: Sequence[int], rows: Sequence[Row], seed: int) -> float:
    # The first key of a row is the most stable one (the speaker comes before the sentence). The
    # smallest hash names the component. It is hashed again because the smallest of many hashes is
    # nearly always small, which would favour the test split.
    keys = {(rows[i].leakage_keys or (f"row {rows[i].id}",))[0] for i in members}
    least = min(hash_text(f"{seed}|{key}") for key in keys)
    return int(hash_text(least)[:13], 16) / 16**13


def _draw(
    free: Sequence[tuple[float, list[int]]], shares: dict[Split, float]
) -> list[tuple[Split, list[int]]]:
    total = sum(len(members) for _, members in free)
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
    for split, share in shares.items():
        held = sum(len(members) for name, members in drawn if name == split)
        while held < share * total / 2 and len(train) > 1:
            members = train.pop(0)[2]
            drawn.append((split, members))
            held += len(members)
    return drawn + [("train", members) for _, _, members in train]
