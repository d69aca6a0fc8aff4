"""Rows stay in their split while data grows, shrinks and is corrected; trained rows stay untested.

The properties are checked on rows in memory with a ledger that gets what `check` would write. A
model beside it keeps the history of each row and key.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmtune
from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.data.dataset import Dataset, describe, remarks
from mmtune.data.manifest import write_manifest
from mmtune.data.row_keys import Entry, KnownKeys, entry_of
from mmtune.data.split import Assigned, assign
from mmtune.data.split_ledger import (
    KIND,
    mark_trained,
    read_ledger,
)
from mmtune.errors import DataError
from mmtune.speech.speech_row import SpeechRow
from mmtune.system.contents import SPLITS_FILE
from tests.data.pieces import IMAGE, SPEECH, write_audio, write_image
from tests.data.test_split import crossing

OPTIONS = DataOptions(validation=0.2, test=0.2)


def keys_of(row: SpeechRow) -> set[str]:
    return {f"id {row.id}", *row.leakage_keys}


class History:
    """Data that changes, its ledger, and what each row and key was before."""

    def __init__(self) -> None:
        self.rows: dict[str, SpeechRow] = {}
        self.made = 0
        self.known = KnownKeys()
        self.sides: dict[str, str] = {}  # by id: the split that it first had
        self.ever: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}

    def add(self, speaker: str | None, text: str) -> None:
        row = SpeechRow(id=f"r{self.made}", audio=f"{self.made}.wav", text=text, speaker=speaker)
        self.rows[row.id] = row.model_copy(update={"content": f"sound {self.made}"})
        self.made += 1

    def correct(self, row: str, what: str, value: Any) -> None:
        """Change a row's text or speaker, or write its file anew in another format."""
        change: dict[str, Any] = {}
        if what in ("content", "everything"):
            self.made += 1
            change |= {"content": f"sound {self.made}", "audio": f"{row}.mp3"}
        if what == "everything":
            change |= {"text": f"words {self.made}", "speaker": None}
        elif what != "content":
            change = {what: value}
        self.rows[row] = self.rows[row].model_copy(update=change)

    def check(self, train: bool) -> Assigned[SpeechRow]:
        rows = list(self.rows.values())
        found = assign(rows, 0.2, 0.2, known=self.known, root=Path())
        self.known.add(self.known.news([entry_of(row, Path(), ()) for row in found.rows]))
        if train:
            trained = [row for row in found.rows if row.split == "train"]
            self.known.add([entry_of(row, Path(), (), trained=True) for row in trained])
        return found

    def problems(self, found: Assigned[SpeechRow]) -> list[str]:
        """What doesn't hold after a change, though it must after each."""
        wrong = []
        if len(found.rows) + len(found.left_out) != len(self.rows):
            wrong.append("rows are lost")
        wrong += [f"splits share {key}" for key in crossing(found.rows)]
        for row in found.rows:
            side = str(row.split)
            if self.sides.setdefault(row.id, side) != side:
                wrong.append(f"{row.id} was {self.sides[row.id]}, and is {side}")
            self.ever[side] |= keys_of(row)
        for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
            wrong += [
                f"{key} was in {one} and {other}" for key in self.ever[one] & self.ever[other]
            ]
        again = assign(list(self.rows.values()), 0.2, 0.2, known=self.known, root=Path())
        if {row.id: row.split for row in again.rows} != {r.id: r.split for r in found.rows}:
            wrong.append("the next check divides the same rows otherwise")
        return wrong


speakers = st.none() | st.integers(0, 12).map(str)
texts = st.integers(0, 40).map(lambda n: f"sentence {n}")
changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.tuples(speakers, texts), min_size=1, max_size=12)),
        st.tuples(st.just("remove"), st.integers(0, 99)),
        st.tuples(st.just("text"), st.integers(0, 99), texts),
        st.tuples(st.just("speaker"), st.integers(0, 99), speakers),
        st.tuples(st.sampled_from(["content", "everything"]), st.integers(0, 99), st.none()),
    ),
    min_size=2,
    max_size=12,
)


@given(changes, st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_of_changes_keeps_each_row_in_its_split(
    steps: list[tuple[Any, ...]], trained: list[bool]
) -> None:
    history = History()
    for step, train in zip(steps, trained, strict=False):
        present = list(history.rows)
        if step[0] == "add":
            for speaker, text in step[1]:
                history.add(speaker, text)
        elif present:
            row = present[step[1] % len(present)]
            if step[0] == "remove":
                del history.rows[row]
            else:
                history.correct(row, step[0], step[2])
        assert history.problems(history.check(train)) == []


@given(st.lists(st.tuples(speakers, texts), max_size=30), st.lists(st.tuples(speakers, texts)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_added_rows_move_and_remove_no_other(
    first: list[tuple[str | None, str]], more: list[tuple[str | None, str]]
) -> None:
    history = History()
    for speaker, text in first:
        history.add(speaker, text)
    before = {row.id: row.split for row in history.check(train=False).rows}
    assert len(before) == len(first)
    for speaker, text in more:
        history.add(speaker, text)
    after = {row.id: row.split for row in history.check(train=False).rows}
    assert before.items() <= after.items()


def speech_set(folder: Path, count: int = 30, start: int = 0, **extra: Any) -> Path:
    """Write recordings of three rows a speaker; rows of an earlier call stay."""
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()] if start else []
    for i in range(start, start + count):
        write_audio(folder / f"clips/{i}.wav", seed=i)
        rows.append({"id": f"r{i}", "audio": f"clips/{i}.wav", "text": f"words {i}",
                     "speaker": f"s{i // 3}", **extra})  # fmt: skip
    write_manifest(manifest, rows)
    return folder


def change(folder: Path, **rows: dict[str, Any] | None) -> None:
    """Change rows of the manifest by id; None removes one."""
    manifest = folder / "manifest.jsonl"
    kept = []
    for line in manifest.read_text().splitlines():
        row = json.loads(line)
        if (values := rows.get(row["id"], {})) is not None:
            kept.append(row | values)
    write_manifest(manifest, kept)


def look(folder: Path, **options: Any) -> Dataset:
    return check(folder, SPEECH, OPTIONS, record=True, **options)


def sides(data: Dataset) -> dict[str, str]:
    return {row.id: str(row.split) for row in data.rows}


def kinds(data: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in data.findings:
        found.setdefault(finding.kind, []).append(finding.row)
    return found


def test_the_ledger_is_json_lines_beside_the_data_without_texts(tmp_path: Path) -> None:
    data = look(speech_set(tmp_path))
    header, *lines = (tmp_path / SPLITS_FILE).read_text().splitlines()
    assert json.loads(header) == {"format": 1, "kind": KIND, "validation": 0.2, "test": 0.2}
    entries = [Entry.from_dict(json.loads(line)) for line in lines]
    assert {each.id: each.split for each in entries if each} == sides(data)
    assert "words" not in "".join(lines)
    assert not list(tmp_path.glob(".*"))  # no lock is left
    written = (tmp_path / SPLITS_FILE).read_bytes()
    again = look(tmp_path)
    assert again.fingerprint == data.fingerprint
    assert (tmp_path / SPLITS_FILE).read_bytes() == written
    assert again.files == {"found": 32, "used": 32, "left_out": 0}
    look(speech_set(tmp_path, 3, start=30))
    assert (tmp_path / SPLITS_FILE).read_bytes().startswith(written)


def test_a_look_without_record_writes_nothing(tmp_path: Path) -> None:
    check(speech_set(tmp_path), SPEECH, OPTIONS)
    assert not (tmp_path / SPLITS_FILE).exists()
    speech_set(tmp_path / "named", split="train")
    rows = {f"r{i}": {"split": "test"} for i in (0, 1, 2)}
    rows |= {f"r{i}": {"split": "validation"} for i in (3, 4, 5)}
    change(tmp_path / "named", **rows)
    look(tmp_path / "named")  # the data names every split
    assert not (tmp_path / "named" / SPLITS_FILE).exists()


def test_rows_stay_while_the_data_grows(tmp_path: Path) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    assert set(before.values()) == {"train", "validation", "test"}
    for start in range(12, 48, 12):
        after = sides(look(speech_set(tmp_path, 12, start=start)))
        assert before.items() <= after.items()
        before = after


# What is done to a row of the test, which must stay there.
CORRECTED: dict[str, dict[str, Any]] = {
    "the text": {"text": "other words"},
    "the speaker": {"speaker": "somebody else"},
    "text and speaker": {"text": "other words", "speaker": "somebody else"},
    "the file": {"audio": "clips/new.wav"},
    "the id": {"id": "another"},
    "the id and the text": {"id": "another", "text": "other words", "speaker": None},
    "the file and the text": {"audio": "clips/new.wav", "text": "other words", "speaker": None},
    "the format, the id and the text": {"audio": "clips/NUMBER.flac", "id": "another",
                                        "text": "other words", "speaker": None},
}  # fmt: skip


@pytest.mark.parametrize("what", CORRECTED)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_corrected_row_keeps_its_split(tmp_path: Path, what: str, split: str) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    row = next(name for name, side in before.items() if side == split)
    values = {key: str(value).replace("NUMBER", row[1:]) if value else value
              for key, value in CORRECTED[what].items()}  # fmt: skip
    if "audio" in values:
        write_audio(tmp_path / str(values["audio"]), seed=99)
    change(tmp_path, **{row: values})
    after = sides(look(tmp_path))
    assert after[values.get("id", row)] == split
    assert sum(before.get(name, split) != side for name, side in after.items()) == 0


def test_pictures_in_another_format_keep_their_split(tmp_path: Path) -> None:
    for i in range(12):
        write_image(tmp_path / f"{i}.png", seed=i)
        (tmp_path / f"{i}.txt").write_text(f"thing {i}")
    before = sides(check(tmp_path, IMAGE, OPTIONS, record=True))
    for i in range(12):
        write_image(tmp_path / f"{i}.jpg", seed=i, quality=70)
        (tmp_path / f"{i}.png").unlink()
        (tmp_path / f"{i}.txt").write_text(f"a better caption of {i}")
    assert sides(check(tmp_path, IMAGE, OPTIONS, record=True)) == before


def test_shifted_ids_move_nothing(tmp_path: Path) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    change(tmp_path, **{f"r{i}": {"id": f"r{i + 1}"} for i in range(12)})
    assert sides(look(tmp_path)) == {f"r{int(k[1:]) + 1}": side for k, side in before.items()}


def test_a_row_between_two_splits_is_left_out(tmp_path: Path) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    trained = next(name for name, side in before.items() if side == "train")
    tested = next(name for name, side in before.items() if side == "test")
    speech_set(tmp_path, 1, start=12)
    change(tmp_path, r12={"speaker": f"s{int(trained[1:]) // 3}", "text": f"words {tested[1:]}"})
    data = look(tmp_path)
    assert sides(data) == before
    assert data.withheld == ("r12",)
    assert data.quarantined == ()
    assert kinds(data)["leakage"] == ["r12"]
    # The row whose key the ledger knows may be gone: its split can't be changed.
    for name in before:
        change(tmp_path, **{name: None} if before[name] != "train" else {})
    (leak,) = (each for each in look(tmp_path).findings if each.kind == "leakage")
    assert "is in test (by the split ledger) and train (row r12)" in leak.message
    assert leak.cure.startswith("correct the sentence; if splits may share a sentence")
    assert "             1 in no split: leaks, or trained on before" in describe(data)
    assert "1 row is in no split: leaks, or trained on before" in remarks(data)
    assert data.to_dict()["withheld"] == ["r12"]
    assert data.to_dict()["rows"] == 13


def test_a_trained_row_is_never_tested(tmp_path: Path) -> None:
    speech_set(tmp_path, 12, split="train")
    change(tmp_path, **{f"r{i}": {"split": "test"} for i in (0, 1, 2)})
    trained = look(tmp_path).split("train")
    mark_trained(tmp_path, trained)
    speaker = [row.id for row in trained[:3]]
    change(tmp_path, **{row: {"split": "test"} for row in speaker})
    data = look(tmp_path)
    assert kinds(data)["trained"] == speaker
    assert {row.id for row in data.split("test")} == {"r0", "r1", "r2"}
    change(tmp_path, r0=None, r1=None, r2=None)
    with pytest.raises(DataError, match="each of the 3 rows of test would have to be left out"):
        look(tmp_path)
    data = look(tmp_path, strict=False)
    assert kinds(data)["split-refused"] == ["all rows"]
    # Rows whose split isn't named any more go on being trained on.
    change(tmp_path, **{f"r{i}": {"split": None} for i in range(12)})
    after = sides(look(tmp_path))
    assert {after[row.id] for row in trained} == {"train"}


def test_what_was_in_train_once_stays_there() -> None:
    known = KnownKeys()
    known.add([Entry("a", "train", ("1",)), Entry("a", "test", ("1", "2"))])
    assert known.sides == {"1": "train", "2": "test"}


def test_a_lock_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (speech_set(tmp_path, 12) / f".{SPLITS_FILE}.lock").mkdir()
    data = look(tmp_path)
    (finding,) = (each for each in data.findings if each.kind == "split-ledger")
    assert "can't be locked" in finding.message
    mark_trained(tmp_path, data.split("train"))
    assert not (tmp_path / SPLITS_FILE).exists()


# The folders of files, and the split of each.
FOLDERS: dict[str, tuple[list[str], list[str | None]]] = {
    "train and test": (["train", "test"], ["train", "test"]),
    "all three, in other words": (["training/a", "val/b", "Test"], ["train", "validation", "test"]),
    "eval": (["train", "eval"], ["train", "validation"]),
    "no train": (["validation", "test"], [None, None]),
    "train alone": (["train/a", "train/b"], [None, None]),
    "another folder": (["train", "test", "more"], [None, None, None]),
    "a file in the folder itself": (["train", "test", "."], [None, None, None]),
}  # fmt: skip


# The file for which the folders' names don't count.
OUTSIDE = {"another folder": "more/2", "a file in the folder itself": "2"}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("reader", [SPEECH, IMAGE], ids=["speech", "image"])
def test_folders_named_after_splits(tmp_path: Path, name: str, reader: Any) -> None:
    folders, wanted = FOLDERS[name]
    for i, folder in enumerate(folders):
        if reader is SPEECH:
            write_audio(tmp_path / folder / f"{i}.wav", seed=i)
        else:
            write_image(tmp_path / folder / f"{i}.png", seed=i)
        (tmp_path / folder / f"{i}.txt").write_text(f"words {i}")
    data = check(tmp_path, reader, divide=False)
    assert {row.path.stem: row.split for row in data.rows} == {
        str(i): split for i, split in enumerate(wanted)
    }
    guesses = {each.source for each in data.guesses if each.what == "split"}
    tops = {f"the name of the folder {each.split('/')[0]}" for each in folders}
    assert guesses == (tops if wanted[0] else set())
    suffix = ".wav" if reader is SPEECH else ".png"
    assert [(each.severity, each.message) for each in data.findings if "folders" in each.kind] == [
        (
            "warning",
            "the folders test and train aren't used as splits, because 1 file lies outside of "
            f"them, the first: {OUTSIDE[each]}{suffix}",
        )
        for each in OUTSIDE
        if each == name
    ]


def test_rows_that_a_run_marks_twice_are_written_once(tmp_path: Path) -> None:
    rows = look(speech_set(tmp_path, 12)).split("train")
    mark_trained(tmp_path, rows)
    written = (tmp_path / SPLITS_FILE).read_bytes()
    mark_trained(tmp_path, rows)
    assert (tmp_path / SPLITS_FILE).read_bytes() == written


def test_no_test_is_wanted_and_later_is_again(tmp_path: Path) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    data = check(tmp_path, SPEECH, DataOptions(validation=0.2, test=0), record=True)
    assert not data.split("test")
    assert sides(look(tmp_path)) == before
    # Rows that come meanwhile go where their speaker belongs.
    tested = next(int(name[1:]) for name, side in before.items() if side == "test")
    speech_set(tmp_path, 1, start=12)
    change(tmp_path, r12={"speaker": f"s{tested // 3}"})
    data = check(tmp_path, SPEECH, DataOptions(validation=0.2, test=0), record=True)
    assert sides(data)["r12"] == "train"
    assert sides(look(tmp_path)) == {**before, "r12": "test"}
    mark_trained(tmp_path, data.split("train"))
    after = sides(look(tmp_path))
    assert {after[name] for name, side in before.items() if side == "test"} == {"train"}


def test_another_share_holds_for_new_rows_and_this_is_said(tmp_path: Path) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    data = check(tmp_path, SPEECH, DataOptions(validation=0.2, test=0.5))
    assert sides(data) == before
    (finding,) = (each for each in data.findings if each.kind == "split-ledger")
    assert "data.test is 0.5 now and was 0.2" in finding.message
    assert finding.severity == "warning"
    assert "split-ledger" not in kinds(check(tmp_path, SPEECH))  # the usual shares aren't asked for


def test_rows_that_nobody_trained_on_are_divided_anew_by_other_shares(tmp_path: Path) -> None:
    mmtune.check(speech_set(tmp_path, 30))
    asked = DataOptions(test=0.4)
    data = check(tmp_path, SPEECH, asked, record=True)
    new = check(speech_set(tmp_path / "new", 30), SPEECH, asked, record=True)
    assert sides(data) == sides(new)
    assert len(data.split("test")) >= 9
    (note,) = (each for each in data.findings if each.kind == "split-ledger")
    assert note.severity == "note"
    assert "0.4 now and was 0.1 when the split ledger was begun: all rows" in note.message
    header, *lines = (tmp_path / SPLITS_FILE).read_text().splitlines()
    assert json.loads(header) == {"format": 1, "kind": KIND, "validation": 0.1, "test": 0.4}
    assert {json.loads(line)["id"] for line in lines} == {f"r{i}" for i in range(30)}
    # The usual shares aren't asked for.
    assert sides(mmtune.check(tmp_path)) == sides(data)
    mark_trained(tmp_path, data.split("train"), asked)
    again = check(tmp_path, SPEECH, DataOptions(test=0.2), record=True)
    assert sides(again) == sides(data)
    (warning,) = (each for each in again.findings if each.kind == "split-ledger")
    assert "the new value holds for new rows only" in warning.message
    assert not list(tmp_path.glob(".*"))


# What may hide that a run has trained on a row.
UNSURE = {
    "a damaged line": lambda path: path.write_text(path.read_text() + "{}\n"),
    "no shares": lambda path: path.write_text(
        path.read_text().replace(', "validation": 0.2, "test": 0.2', "")
    ),
}


@pytest.mark.parametrize("what", UNSURE)
def test_rows_of_which_training_is_unsure_are_not_divided_anew(tmp_path: Path, what: str) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    UNSURE[what](tmp_path / SPLITS_FILE)
    written = (tmp_path / SPLITS_FILE).read_bytes()
    data = check(tmp_path, SPEECH, DataOptions(validation=0.2, test=0.5), record=True)
    assert sides(data) == before
    assert (tmp_path / SPLITS_FILE).read_bytes() == written


def test_a_ledger_that_training_begins_knows_the_shares(tmp_path: Path) -> None:
    data = check(speech_set(tmp_path, 12), SPEECH, OPTIONS)
    mark_trained(tmp_path, data.split("train"), OPTIONS)
    assert read_ledger(tmp_path).shares == {"validation": 0.2, "test": 0.2}
    data = check(tmp_path, SPEECH, DataOptions(validation=0.2, test=0.5), record=True)
    assert "split-ledger" in kinds(data)


@pytest.mark.parametrize("why", ["rows with errors", "a split without rows"])
@pytest.mark.parametrize("strict", [True, False])
def test_data_that_is_refused_has_no_ledger(tmp_path: Path, why: str, strict: bool) -> None:
    speech_set(tmp_path, 12)
    if why == "rows with errors":
        for i in range(9):
            (tmp_path / f"clips/{i}.wav").write_bytes(b"no sound")
    else:
        change(tmp_path, r0={"split": "train"}, r1={"split": "test"})
    with pytest.raises(DataError) if strict else nullcontext():
        look(tmp_path, strict=strict)
    assert not (tmp_path / SPLITS_FILE).exists()
    # The rows get a split as in data that was never refused.
    if why == "rows with errors":
        for i in range(9):
            write_audio(tmp_path / f"clips/{i}.wav", seed=i)
    else:
        change(tmp_path, r0={"split": None}, r1={"split": None})
    assert sides(look(tmp_path)) == sides(look(speech_set(tmp_path / "new", 12)))
