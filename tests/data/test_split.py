from collections import Counter
from collections.abc import Collection, Sequence
from random import Random
from typing import Any

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.data.rows import Row
from mmtune.data.split import Assigned, assign, components, missing_splits, shared_by_splits
from mmtune.image.image_row import ImageRow
from mmtune.speech.speech_row import SpeechRow


def speech(i: int, speaker: str | None, sentence: str, split: str | None = None) -> SpeechRow:
    return SpeechRow(id=str(i), audio="a", text=sentence, speaker=speaker, split=split)  # type: ignore[arg-type]


def split_of(rows: list[SpeechRow], *args: Any, **kwargs: Any) -> dict[str, str]:
    return {row.id: str(row.split) for row in assign(rows, *args, **kwargs).rows}


def crossing(rows: Sequence[Row], shared: Collection[str] = ()) -> set[str]:
    """Leakage keys that rows of several splits have."""
    splits: dict[str, set[str | None]] = {}
    for row in rows:
        for key in row.leakage_keys:
            if key.split()[0] not in shared:
                splits.setdefault(key, set()).add(row.split)
    return {key for key, found in splits.items() if len(found) > 1}


rows_of = st.lists(
    st.tuples(
        st.none() | st.integers(0, 8).map(str),
        st.integers(0, 30).map(lambda n: f"sentence {n}"),
        st.sampled_from([None, None, None, "train", "validation", "test"]),
    ),
    min_size=1,
    max_size=40,
).map(lambda values: [speech(i, *v) for i, v in enumerate(values)])


@given(rows_of)
@settings(max_examples=200, deadline=None)
def test_components_are_networkx_connected_components(rows: list[SpeechRow]) -> None:
    graph = networkx.Graph()
    for row in rows:
        graph.add_node(row.id)
        graph.add_edges_from((row.id, key) for key in row.leakage_keys)
    ids = {row.id for row in rows}
    theirs = {frozenset(c & ids) for c in networkx.connected_components(graph)}
    found = components([row.leakage_keys for row in rows])
    ours = [frozenset(rows[i].id for i in members) for members in found]
    assert set(ours) == theirs
    assert len(ours) == len(theirs)


@given(rows_of, st.integers(0, 5), st.sampled_from([(), ("speaker",), ("sentence", "speaker")]))
@settings(max_examples=120, deadline=None)
def test_no_split_shares_a_key_with_another_and_named_splits_stand(
    rows: list[SpeechRow], seed: int, shared: tuple[str, ...]
) -> None:
    found = assign(rows, 0.2, 0.2, seed, shared=shared)
    assert not crossing(found.rows, shared)
    kept = [row.id for row in found.rows]
    assert sorted([*kept, *found.left_out], key=int) == [row.id for row in rows]
    assert kept == sorted(kept, key=int)
    named = {row.id: row.split for row in rows}
    for row in found.rows:
        assert named[row.id] in (None, row.split) or row.id in found.drawn
    # What is named as train is never left out, and never tested.
    for row in rows:
        if row.split == "train":
            assert next(each for each in found.rows if each.id == row.id).split != "test"
    warned = {each.row for each in found.findings if each.severity == "warning"}
    assert warned == set(found.left_out)
    free = [row.model_copy(update={"split": None}) for row in rows]
    assert not assign(free, 0.2, 0.2, seed).left_out


@given(rows_of, st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_does_not_matter(rows: list[SpeechRow], random: Random) -> None:
    before = split_of(rows, 0.2, 0.2)
    random.shuffle(rows)
    assert split_of(rows, 0.2, 0.2) == before


def test_shares_are_near_and_the_seed_matters() -> None:
    rows = [speech(i, None, f"s{i}") for i in range(1000)]
    counts = Counter(row.split for row in assign(rows, 0.1, 0.2).rows)
    assert 70 <= counts["validation"] <= 130
    assert 160 <= counts["test"] <= 240
    assert split_of(rows, 0.1, 0.2, seed=1) != split_of(rows, 0.1, 0.2)


def test_adding_rows_moves_none() -> None:
    rows = [speech(i, str(i // 3), f"s{i}") for i in range(600)]
    before = split_of(rows[:450], 0.1, 0.1)
    after = split_of(rows[::-1], 0.1, 0.1)
    assert all(after[row] == split for row, split in before.items())


@pytest.mark.parametrize("speakers", [3, 4, 5, 8])
def test_few_speakers_still_fill_every_split(speakers: int) -> None:
    rows = [speech(i, str(i % speakers), f"s{i}") for i in range(40)]
    split = assign(rows, 0.1, 0.1).rows
    assert {row.split for row in split} == {"train", "validation", "test"}
    assert Counter(r.split for r in split).most_common(1)[0][0] == "train" or speakers == 3


def test_a_dominant_speaker_stays_in_training() -> None:
    rows = [speech(i, "main" if i < 70 else str(i), f"s{i}") for i in range(100)]
    for seed in range(20):
        split = assign(rows, 0.1, 0.1, seed).rows
        assert {r.split for r in split if r.speaker == "main"} == {"train"}


def test_one_speaker_alone_cannot_be_held_out_and_that_is_said() -> None:
    rows = assign([speech(i, "me", f"s{i}") for i in range(20)], 0.1, 0.1).rows
    assert {row.split for row in rows} == {"train"}
    findings = missing_splits(rows, [("validation", 0.1), ("test", 0.0)])
    assert [(f.kind, f.severity) for f in findings] == [("no-validation", "warning")]


def test_a_split_that_the_manifest_names_is_complete() -> None:
    rows = [speech(i, None, f"s{i}", "test" if i < 5 else None) for i in range(200)]
    split = assign(rows, 0.1, 0.3).rows
    assert [row.id for row in split if row.split == "test"] == ["0", "1", "2", "3", "4"]
    assert any(row.split == "validation" for row in split)


def test_a_free_row_joins_the_split_of_its_kin() -> None:
    rows = [speech(0, "a", "x", "test"), speech(1, "a", "y"), speech(2, None, "Y!")]
    rows += [speech(i, None, f"s{i}", "train") for i in range(3, 9)]
    assert [row.split for row in assign(rows, 0.5, 0.5).rows][:3] == ["test"] * 3


def findings_of(found: Assigned[SpeechRow]) -> list[tuple[str, str, str]]:
    return [(each.kind, each.row, each.severity) for each in found.findings]


# The splits that the data names, with the splits that rows end in; a row is "split speaker text".
DECLARED: dict[str, tuple[list[str], list[str | None]]] = {
    "nothing is shared": (["train a x", "test b y"], ["train", "test"]),
    "a speaker of train is in the test": (["train a x", "test a y", "test b z"],
                                          ["train", None, "test"]),
    "a sentence, spelled otherwise": (["train a x y", "test b X, y!", "test c z"],
                                      ["train", None, "test"]),
    "a speaker of train is in the validation": (
        ["validation a x", "validation b y", "train a z"], [None, "validation", "train"]),
    "a speaker of the test is in the validation": (
        ["validation a x", "validation b y", "test a z"], [None, "validation", "test"]),
    "a row without a split joins": (["train a x", "test b y", "- b z", "- a w"],
                                    ["train", "test", "test", "train"]),
    "a row without a split is between two": (["train a x", "test b y", "- a y"],
                                             ["train", "test", None]),
    "rows without a split lead from one to the other": (
        ["train a x", "test b y", "- a p", "- c p", "- c y"],
        ["train", "test", "train", "train", None]),
}  # fmt: skip


def declared(lines: list[str]) -> list[SpeechRow]:
    rows = []
    for i, line in enumerate(lines):
        split, speaker, text = line.split(" ", 2)
        rows.append(speech(i, speaker, text, None if split == "-" else split))
    return rows


@pytest.mark.parametrize("name", DECLARED)
def test_a_named_split_stands_and_rows_that_leak_are_left_out(name: str) -> None:
    lines, wanted = DECLARED[name]
    found = assign(declared(lines), 0.0, 0.3)
    assert {row.id: row.split for row in found.rows} == {
        str(i): split for i, split in enumerate(wanted) if split is not None
    }
    left = [str(i) for i, split in enumerate(wanted) if split is None]
    assert findings_of(found) == [("leakage", row, "warning") for row in left]


def test_the_finding_names_the_key_and_both_rows() -> None:
    found = assign(declared(DECLARED["a speaker of train is in the test"][0]), 0.0, 0.0)
    (finding,) = found.findings
    assert (
        "'speaker a' is in train (row 0) and test (row 1): the row of test is left"
        in finding.message
    )
    assert finding.message.count("row 1") == 1
    assert finding.cure.startswith("give both the same 'split', or correct the speaker")
    assert "share a speaker: --shared speaker" in finding.cure


def test_a_split_that_would_be_empty_is_refused() -> None:
    found = assign(declared(["train a x", "test a y", "test a z"]), 0.0, 0.0)
    assert findings_of(found)[-1] == ("split-refused", "all rows", "error")
    assert "each of the 2 rows of test would have to be left out" in found.findings[-1].message
    found = assign(declared(["train a x", "test a y", "test a z"]), 0.0, 0.0, shared=["speaker"])
    assert {row.id: row.split for row in found.rows} == {"0": "train", "1": "test", "2": "test"}
    assert not found.findings
    (note,) = shared_by_splits(found.rows, ["speaker"])
    assert note.severity == "note"
    assert "'speaker a' is in train (row 0) and test (row 1)" in note.message
    assert not shared_by_splits(found.rows, ["sentence"])


def test_one_speaker_can_be_held_out_from_if_that_is_meant() -> None:
    rows = [speech(i, "me", f"s{i}") for i in range(40)]
    found = assign(rows, 0.1, 0.1, shared=["speaker"])
    assert {row.split for row in found.rows} == {"train", "validation", "test"}


def test_train_and_test_get_their_validation_from_train() -> None:
    rows = [speech(i, str(i // 2), f"s{i}", "test" if i < 10 else "train") for i in range(100)]
    found = assign(rows, 0.2, 0.2)
    assert not found.findings
    assert [row.id for row in found.rows if row.split == "test"] == [str(i) for i in range(10)]
    drawn = [row.id for row in found.rows if row.split == "validation"]
    assert found.drawn == drawn
    assert 8 <= len(drawn) <= 30
    assert not crossing(found.rows)
    assert not assign(rows, 0.0, 0.2).drawn
    assert not assign(rows[10:], 0.2, 0.2).drawn  # nothing is held out elsewhere
    named = [*rows[:-1], speech(99, "99", "s99", "validation")]
    assert not assign(named, 0.2, 0.2).drawn
    # Shared sentences never move a row of train into the test.
    twin = [*rows, speech(100, "x", "s20", "test")]
    found = assign(twin, 0.2, 0.2)
    assert found.left_out == ["100"]
    assert sum(row.split == "test" for row in found.rows) == 10


def test_pictures_of_one_subject_stay_together() -> None:
    rows = [
        ImageRow(id=str(i), image="a", caption=f"{'red' if i % 2 else 'green'} thing {i // 2}",
                 subject=f"thing {i // 2}")
        for i in range(60)
    ]  # fmt: skip
    split = assign(rows, 0.2, 0.2).rows
    assert all(a.split == b.split for a, b in zip(split[::2], split[1::2], strict=True))
    assert {row.split for row in split} == {"train", "validation", "test"}


@given(rows_of, st.lists(st.tuples(st.integers(0, 45), st.integers(0, 45)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_linked_rows_share_a_split_as_those_with_a_common_key_do(
    rows: list[SpeechRow], pairs: list[tuple[int, int]]
) -> None:
    links = [(str(a), str(b)) for a, b in pairs]  # some name no row
    graph = networkx.Graph()
    for row in rows:
        graph.add_node(row.id)
        graph.add_edges_from((row.id, key) for key in row.leakage_keys)
    ids = {row.id for row in rows}
    graph.add_edges_from((a, b) for a, b in links if {a, b} <= ids)
    free = [row.model_copy(update={"split": None}) for row in rows]
    split = split_of(free, 0.2, 0.2, links=links)
    for members in networkx.connected_components(graph):
        assert len({split[row] for row in members & ids}) == 1


def test_links_that_the_manifest_tears_apart_are_named() -> None:
    rows = [speech(0, None, "x", "train"), speech(1, None, "y", "test"), speech(2, None, "z")]
    rows.append(speech(3, None, "w", "test"))
    found = assign(rows, 0.0, 0.0, links=[("1", "0"), ("0", "7")])
    assert findings_of(found) == [("leakage", "1", "warning")]
    assert "rows '0' (train) and '1' (test) are nearly the same" in found.findings[0].message
    assert not assign(rows, 0.1, 0.1, links=[("2", "1")]).findings
