"""What stands beside the training rows: how much, that it is what it says, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.config import RunConfig
from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.errors import ConfigError
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus import extra_rows as mix
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_options import MixOptions, SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from tests.speech.real import TINY, corpus, needs


def clip(path: Path, seconds: float, hertz: float) -> None:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    quiet = np.zeros(SAMPLE_RATE // 5)
    tone = 0.3 * np.sin(2 * np.pi * hertz * time)
    soundfile.write(path, np.concatenate([quiet, tone, quiet]), SAMPLE_RATE)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = []
    for i in range(20):
        seconds = 2.0 + i / 10
        clip(folder / f"{i:02}.wav", seconds, 200 + 20 * i)
        speaker = f"s{i // 5}" if i < 15 else f"alone{i}"
        rows.append(
            {"id": f"r{i:02}", "audio": f"{i:02}.wav", "text": f"word {i}", "speaker": speaker}
        )
    lines = "\n".join(json.dumps(row | {"split": "train"}) for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    return folder


def configured(out: Path, **shares: Any) -> RunConfig:
    task = SpeechOptions(mix=MixOptions(**shares))
    return RunConfig(
        recipe="r", modality="speech", name="run", base=TINY, out=out, task=task, cache=False
    )


def checked(source: Path) -> Dataset:
    return check(source, find_modality("speech"))


def test_the_rows_are_what_they_say(recordings: Path, tmp_path: Path) -> None:
    dataset = checked(recordings)
    made = mix.extend(configured(tmp_path), dataset)
    assert made is not None
    added = checked(made)
    assert not [f for f in added.findings if f.severity == "error"]
    assert all(row.split == "train" for row in added.rows)
    kinds = [row.group["mix"] for row in added.rows]
    # 20 rows are 65 %: 30 % of all are joined, 5 % are no speech.
    assert kinds.count("joined") == 9
    assert kinds.count("nonspeech") == 2
    texts = {row.reference: row for row in dataset.rows}
    for row in added.rows:
        assert isinstance(row, SpeechRow)
        audio = read_row(row)
        assert len(audio) <= 30 * SAMPLE_RATE
        if row.nonspeech:
            assert row.text == ""
            continue
        assert len(row.segments) > 1
        for segment in row.segments:
            # The tone of that utterance is heard in its time, and silence around it.
            original = texts[segment.text]
            number = int(original.id[1:])
            start, end = int(segment.start * SAMPLE_RATE), int(segment.end * SAMPLE_RATE)
            assert (end - start) / SAMPLE_RATE == pytest.approx(2.0 + number / 10, abs=0.05)
            heard = np.abs(np.fft.rfft(audio[start:end]))
            found = np.argmax(heard) * SAMPLE_RATE / (end - start)
            assert found == pytest.approx(200 + 20 * number, abs=2)
            assert np.abs(audio[start - 1600 : start - 320]).max(initial=0) < 0.01
        speakers = {getattr(texts[s.text], "speaker", None) for s in row.segments}
        assert len(speakers) == 1 or all(str(s).startswith("alone") for s in speakers)


def test_a_prompt_is_what_was_said_before(recordings: Path, tmp_path: Path) -> None:
    dataset = checked(recordings)
    order = [row.reference for row in dataset.rows]
    made = mix.extend(configured(tmp_path, joined=0.5), dataset)
    assert made is not None
    prompted = 0
    for row in checked(made).rows:
        if prompt := getattr(row, "prompt", None):
            prompted += 1
            first = order.index(row.segments[0].text)  # type: ignore[attr-defined]
            assert order[first - 1] in prompt
            assert prompt.split()[-1] == order[first - 1].split()[-1]
    assert prompted


def test_it_is_made_once(recordings: Path, tmp_path: Path) -> None:
    dataset, config = checked(recordings), configured(tmp_path)
    made = mix.extend(config, dataset)
    assert made is not None
    stamp = {path: path.stat().st_mtime_ns for path in made.rglob("*.flac")}
    first = checked(made).fingerprint
    assert mix.extend(config, dataset) == made
    assert stamp == {path: path.stat().st_mtime_ns for path in made.rglob("*.flac")}
    elsewhere = mix.extend(configured(tmp_path / "other"), dataset)
    assert elsewhere is not None
    assert checked(elsewhere).fingerprint == first  # the same seed, the same mix
    mix.extend(configured(tmp_path, nonspeech=0.2), dataset)
    assert len(list(made.glob("audio/nonspeech-*"))) > 2
    assert checked(made).fingerprint != first


def test_nothing_is_made_where_nothing_is_asked_for(recordings: Path, tmp_path: Path) -> None:
    config = configured(tmp_path, joined=0, nonspeech=0)
    assert mix.extend(config, checked(recordings)) is None
    assert not (config.folder / "data" / "mix").exists()


@given(st.integers(1, 5000), st.floats(0, 0.4), st.floats(0, 0.3), st.floats(0, 0.2))
def test_shares_are_of_all_windows(rows: int, joined: float, noise: float, replay: float) -> None:
    options = SpeechOptions(mix=MixOptions(joined=joined, nonspeech=noise, replay=replay))
    counts = mix.shares(options, rows, general=10**6)
    total = rows + sum(counts.values())
    for kind, share in (("joined", joined), ("nonspeech", noise), ("replay", replay)):
        assert abs(counts[kind] - share * total) <= 2
    assert mix.shares(options, rows, general=3)["replay"] <= 3


def test_shares_that_leave_nothing_are_refused() -> None:
    options = SpeechOptions(mix=MixOptions(joined=0.9, nonspeech=0.1))
    with pytest.raises(ConfigError, match=r"add up to 1\.00"):
        mix.shares(options, 10, 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60))
def test_no_join_is_too_long_or_comes_twice(seed: int, count: int) -> None:
    rows = [
        SpeechRow(id=str(i), audio=f"{i}", text=f"t{i}", speaker=f"s{i % 3}", duration_s=3 + i % 20)
        for i in range(12)
    ]
    lengths = {row.id: row.duration_s or 0.0 for row in rows}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mix, "seconds_of", lambda row: lengths[row.id])
        joins = list(mix.plan_joins(rows, count, np.random.default_rng(seed)))
    assert len(joins) <= count
    for join in joins:
        assert len(join.rows) == len(join.pauses) + 1 >= 2
        assert sum(lengths[row.id] for row in join.rows) + sum(join.pauses) <= 30
        assert len({row.speaker for row in join.rows}) == 1
    assert len({tuple(row.id for row in join.rows) for join in joins}) == len(joins)


@needs(TINY)
def test_replayed_speech_has_the_bases_words(recordings: Path, tmp_path: Path) -> None:
    general = tmp_path / "general.jsonl"
    lines = (corpus() / "test.jsonl").read_text(encoding="utf-8").splitlines()[:60:20]
    rows = [json.loads(line) for line in lines]
    for row in rows:
        target = tmp_path / row["audio"]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((corpus() / row["audio"]).read_bytes())
    general.write_text("\n".join(json.dumps(r | {"text": "not read"}) for r in rows))
    config = configured(tmp_path, joined=0, nonspeech=0, replay=0.1, general=general)
    made = mix.extend(config, checked(recordings))
    assert made is not None
    found = checked(made).rows
    assert len(found) == 2
    same = configured(
        tmp_path / "same", joined=0, nonspeech=0, replay=0.1, general=general
    ).model_copy(update={"task": config.task.model_copy(update={"retention": general})})
    assert mix.extend(same, checked(recordings)) is None  # what retention is measured on
    by_id = {row["id"]: row["text"] for row in rows}
    for row in found:
        said = set(by_id[row.group["from"]].split())
        assert said & set(row.reference.lower().strip(".?!").split())
        assert row.reference != "not read"


def test_rows_of_the_data_set_are_never_replayed(recordings: Path) -> None:
    rows = [json.loads(line) for line in (recordings / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        number = int(row["id"][1:])
        row["split"] = "test" if number < 5 else "validation" if number < 10 else "train"
    rows[1]["text"] = "word 19"  # a sentence of train: the row is withheld
    lines = "\n".join(map(json.dumps, rows))
    (recordings / "manifest.jsonl").write_text(lines, encoding="utf-8")
    dataset = checked(recordings)
    assert dataset.withheld == ("r01",)
    for place in (recordings, recordings / "manifest.jsonl"):
        options = SpeechOptions(mix=MixOptions(replay=0.3, general=place))
        assert mix._general(options, dataset) == []
    clip(recordings / "other.wav", 2.5, 900)
    other = {"id": "r01", "audio": "other.wav", "text": "another sentence"}
    elsewhere = recordings.parent / "elsewhere"
    elsewhere.mkdir()
    (recordings / "other.wav").rename(elsewhere / "other.wav")
    (elsewhere / "manifest.jsonl").write_text(json.dumps(other), encoding="utf-8")
    options = SpeechOptions(mix=MixOptions(replay=0.3, general=elsewhere))
    # The same id in another folder is another row.
    assert [row.id for row in mix._general(options, dataset)] == ["r01"]
