from collections import Counter

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.data.split import assign, components, leaks, missing_splits
from mmtune.image.image_row import ImageRow
from mmtune.speech.speech_row import SpeechRow


def speech(i: int, speaker: str | None, sentence: str, split: str | None = None) -> SpeechRow:
    return SpeechRow(id=str(i), audio="a", text=sentence, speaker=speaker, split=split)  # type: ignore[arg-type]


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
    ours = [frozenset(rows[i].id for i in members) for members in components(rows)]
    assert set(ours) == theirs
    assert len(ours) == len(theirs)


@given(rows_of, st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_nothing_leaks_that_the_manifest_did_not_leak(rows: list[SpeechRow], seed: int) -> None:
    split = assign(rows, 0.2, 0.2, seed)
    assert [row.id for row in split] == [row.id for row in rows]
    assert all(new.split is not None for new in split)
    assert all(old.split in (None, new.split) for old, new in zip(rows, split, strict=True))
    for members in components(rows):
        named = {rows[i].split for i in members} - {None}
        if len(named) <= 1:
            assert len({split[i].split for i in members}) == 1
    free = [row.model_copy(update={"split": None}) for row in rows]
    assert not leaks(assign(free, 0.2, 0.2, seed))


def test_shares_are_near_and_the_seed_matters() -> None:
    rows = [speech(i, None, f"s{i}") for i in range(1000)]
    counts = Counter(row.split for row in assign(rows, 0.1, 0.2))
    assert 70 <= counts["validation"] <= 130
    assert 160 <= counts["test"] <= 240
    assert assign(rows, 0.1, 0.2, seed=1) != assign(rows, 0.1, 0.2)


def test_adding_rows_moves_none() -> None:
    rows = [speech(i, str(i // 3), f"s{i}") for i in range(600)]
    before = {row.id: row.split for row in assign(rows[:450], 0.1, 0.1)}
    shuffled = rows[::-1]
    after = {row.id: row.split for row in assign(shuffled, 0.1, 0.1)}
    assert all(after[row] == split for row, split in before.items())


@pytest.mark.parametrize("speakers", [3, 4, 5, 8])
def test_few_speakers_still_fill_every_split(speakers: int) -> None:
    rows = [speech(i, str(i % speakers), f"s{i}") for i in range(40)]
    split = assign(rows, 0.1, 0.1)
    assert {row.split for row in split} == {"train", "validation", "test"}
    assert Counter(r.split for r in split).most_common(1)[0][0] == "train" or speakers == 3


def test_a_dominant_speaker_stays_in_training() -> None:
    rows = [speech(i, "main" if i < 70 else str(i), f"s{i}") for i in range(100)]
    for seed in range(20):
        split = assign(rows, 0.1, 0.1, seed)
        assert {r.split for r in split if r.speaker == "main"} == {"train"}


def test_one_speaker_alone_cannot_be_held_out_and_that_is_said() -> None:
    rows = assign([speech(i, "me", f"s{i}") for i in range(20)], 0.1, 0.1)
    assert {row.split for row in rows} == {"train"}
    findings = missing_splits(rows, [("validation", 0.1), ("test", 0.0)])
    assert [(f.kind, f.severity) for f in findings] == [("no-validation", "warning")]


def test_a_split_that_the_manifest_names_is_complete() -> None:
    rows = [speech(i, None, f"s{i}", "test" if i < 5 else None) for i in range(200)]
    split = assign(rows, 0.1, 0.3)
    assert [row.id for row in split if row.split == "test"] == ["0", "1", "2", "3", "4"]
    assert any(row.split == "validation" for row in split)


def test_a_free_row_joins_the_split_of_its_kin() -> None:
    rows = [speech(0, "a", "x", "test"), speech(1, "a", "y"), speech(2, None, "Y!")]
    rows += [speech(i, None, f"s{i}", "train") for i in range(3, 9)]
    assert [row.split for row in assign(rows, 0.5, 0.5)][:3] == ["test"] * 3


def test_explicit_leaks_are_named() -> None:
    rows = [speech(0, "a", "x", "train"), speech(1, "a", "y", "test")]
    (finding,) = leaks(rows)
    assert finding.severity == "warning"
    assert "'speaker a' is in train (row 0) and test (row 1)" in finding.message


def test_pictures_of_one_subject_stay_together() -> None:
    rows = [
        ImageRow(id=str(i), image="a", caption=f"{'red' if i % 2 else 'green'} thing {i // 2}",
                 subject=f"thing {i // 2}")
        for i in range(60)
    ]  # fmt: skip
    split = assign(rows, 0.2, 0.2)
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
    theirs = {frozenset(c & ids) for c in networkx.connected_components(graph)}
    assert {frozenset(rows[i].id for i in c) for c in components(rows, links)} == theirs
    free = [row.model_copy(update={"split": None}) for row in rows]
    split = {row.id: row.split for row in assign(free, 0.2, 0.2, links=links)}
    assert all(split[a] == split[b] for a, b in links if {a, b} <= ids)


def test_links_that_the_manifest_tears_apart_are_named() -> None:
    rows = [speech(0, None, "x", "train"), speech(1, None, "y", "test"), speech(2, None, "z")]
    (finding,) = leaks(rows, [("1", "0"), ("0", "7")])
    assert (finding.kind, finding.row) == ("leakage", "1")
    assert "'0' (train) and '1' (test)" in finding.message
    assert leaks(assign(rows, 0.1, 0.1, links=[("2", "1")]), [("2", "1")]) == []
