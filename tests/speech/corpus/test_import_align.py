"""Whole transcripts cut by the words that a model hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.importers.alignment import MARGIN, Placed, place, stretches
from mmtune.speech.sound.read import read_audio
from mmtune.speech.speech_row import plain_words
from mmtune.speech.whisper.word_times import Word
from tests.speech.corpus.layouts import SAMPLES, left_out
from tests.speech.real import TINY, needs, real_rows

SPEECH = find_modality("speech")


def words(text: str, start: float = 0.0, each: float = 0.4) -> list[Word]:
    return [
        Word(start + i * each, start + (i + 0.8) * each, f" {word}", 0.9)
        for i, word in enumerate(text.split())
    ]


def test_given_words_get_the_times_of_heard_ones() -> None:
    heard = words("so start met forming today please and thanks")
    placed = place(["Start", "metformin", "today,", "please!"], heard)
    assert [word.text for word in placed] == ["Start", "metformin", "today,", "please!"]
    assert [word.start for word in placed] == pytest.approx([0.4, None, 1.6, 2.0])


def test_a_part_that_nobody_wrote_parts_two_stretches() -> None:
    heard = [*words("good morning"), *words("uh one two three", 1.0), *words("bye now", 8.0)]
    found = stretches(place(["good", "morning", "bye", "now"], heard), 9.0)
    assert [each.text for each in found] == ["good morning", "bye now"]
    assert found[0].end == pytest.approx(0.72 + MARGIN)
    assert found[1].start == pytest.approx(8.0 - MARGIN)


def test_words_that_nobody_said_are_a_stretch_of_their_own() -> None:
    text = "good morning sir these were never said at all how are you"
    heard = [*words("good morning sir"), *words("how are you", 4.0)]
    found = stretches(place(text.split(), heard), 6.0)
    assert [(each.text, each.heard) for each in found] == [
        ("good morning sir", 1.0),
        ("these were never said at all", 0.0),
        ("how are you", 1.0),
    ]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.05, 0.6), st.floats(0, 1.5), st.sampled_from("hhhhhu+")), max_size=150
    )
)
def test_stretches_keep_each_word_once_and_in_time(parts: list[tuple[float, float, str]]) -> None:
    placed, now = [], 0.0
    for i, (length, gap, kind) in enumerate(parts):
        now += gap
        known = kind != "u"
        placed.append(
            Placed(
                f"w{i}", now if known else None, now + length if known else None, 5 * (kind == "+")
            )
        )
        now += length
    found = stretches(placed, now + 1.0)
    assert " ".join(each.text for each in found) == " ".join(word.text for word in placed)
    by_text = {word.text: word for word in placed}
    for each in found:
        inside = [by_text[text] for text in each.text.split()]
        assert each.heard == sum(word.start is not None for word in inside) / len(inside)
        assert each.start <= each.end
        for word in inside:
            if word.start is not None and word.end is not None:
                assert each.start <= word.start + 1e-6
                assert word.end <= each.end + 1e-6


@needs(TINY)
def test_a_call_is_cut_where_its_words_are(tmp_path: Path) -> None:
    rows = real_rows(10, step=9)
    rng = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    spans: dict[str, tuple[float, float]] = {}
    now = 0.0
    for row in rows:
        audio = read_audio(row.path)
        spans[row.text] = (now, now + len(audio) / 16_000)
        pause = (1e-3 * rng.standard_normal(9_600)).astype(np.float32)
        parts += [audio, pause]
        now += (len(audio) + len(pause)) / 16_000
    assert now > 31
    folder = tmp_path / "calls"
    folder.mkdir()
    soundfile.write(folder / "call.wav", np.concatenate(parts), 16_000)
    said = [row.text.lower() for row in rows]
    invented = "the committee has approved seventeen purple elephants for yesterday's parade"
    written = [*said[:7], invented, *said[7:]]
    (folder / "call.txt").write_text("\n".join(written))
    result = import_speech(folder, tmp_path / "without")
    assert (result.rows, "--align" in result.left_out[0].cure) == (0, True)
    to = tmp_path / "to"
    result = import_speech(folder, to, None, {"align": True, "base": TINY, "language": "en"})
    lost = left_out(to)
    assert result.rows >= 2
    data = check(to, SPEECH)
    assert not [f for f in data.findings if f.severity == "error"]
    text = " ".join(row.reference for row in data.rows)
    assert "elephants" not in text
    assert any("elephants" in reason or "committee" in reason for reason in lost.values())
    # Most of what was said is there, and each word lies where it was said.
    whole = plain_words(" ".join(said)).split()
    kept = plain_words(text).split()
    assert len(kept) > 0.6 * len(whole)
    compared = 0
    for row in data.rows:
        start = float(row.group["recording_start"])
        end = float(row.group["recording_end"])
        assert end - start <= 30
        for sentence, (first, last) in spans.items():
            if sentence.lower() in row.reference:
                compared += 1
                assert start <= first + 1.0
                assert end >= last - 1.0
    assert compared >= 2, (compared, len(kept), len(whole), result.left_out)


@pytest.mark.slow
@needs(TINY)
@pytest.mark.parametrize("name", SAMPLES)
def test_each_layout_trains_an_adapter(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, to = SAMPLES[name](tmp_path / "source"), tmp_path / "to"
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    beside = ["--recordings", str(source.parent)] if name == "kaldi" else []
    assert main(["import", str(source), "--to", str(to), "--language", "en", *beside]) == 0
    settings_ = {
        "data": to,
        "base": TINY,
        "out": tmp_path / "runs",
        "name": name,
        "train.max_steps": 2,
        "train.batch_size": 2,
        "data.validation": 0,
        "data.test": 0,
        "lora.rank": 4,
    }
    words_ = [w for key, value in settings_.items() for w in (f"--{key}", str(value))]
    assert main(["train", "terminology", *words_]) == 0
    assert (tmp_path / "runs" / name / "adapter/adapter_model.safetensors").is_file()
