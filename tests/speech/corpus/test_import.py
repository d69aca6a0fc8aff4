"""Each layout from a small sample: imported, checked, and what is in it compared."""

from __future__ import annotations

import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.errors import ConfigError, DataError
from mmtune.speech.corpus.importers import LAYOUTS, import_speech, recognise
from mmtune.speech.corpus.importers.cues import ENOUGH, GAP, Cue, join
from mmtune.speech.sound.read import read_audio
from tests.data.pieces import noise, write_audio
from tests.speech.corpus.layouts import (
    CALLED,
    SAMPLES,
    SPEECH,
    common_voice,
    fingerprint,
    hf_dataset,
    imported,
    kaldi,
    left_out,
    nemo,
    plain_csv,
    srt,
    table,
    vtt,
)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_layout_is_recognised_imported_and_checked(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, to = SAMPLES[name](tmp_path / "source"), tmp_path / "to"
    assert recognise(source) == CALLED.get(name, name)
    # The entries of wav.scp lie outside of Kaldi's data folder, as in its recipes.
    beside = ["--recordings", str(source.parent)] if name == "kaldi" else []
    assert main(["import", str(source), "--to", str(to), "--language", "en", *beside]) == 0
    assert f"mmtune check {to}" in capsys.readouterr().out
    assert main(["check", str(to)]) == 0
    rows = {row.reference: row for row in check(to, SPEECH).rows}
    count = 6 if name == "commonvoice" else 4
    assert sorted(rows) == [f"words {i}" for i in range(count)]
    assert {row.language for row in rows.values()} == {"sv" if name == "commonvoice" else "en"}
    for row in rows.values():
        assert row.path.parent == (to / "audio").resolve()
        assert row.group["recording"]
        with soundfile.SoundFile(row.path) as file:
            assert (file.samplerate, file.channels, file.format) == (16_000, 1, "FLAC")
    before = fingerprint(to)
    mtimes = {path: path.stat().st_mtime_ns for path in (to / "audio").iterdir()}
    assert main(["import", str(source), "--to", str(to), "--language", "en", *beside]) == 0
    assert fingerprint(to) == before
    assert {path: path.stat().st_mtime_ns for path in (to / "audio").iterdir()} == mtimes
    other = tmp_path / "other"
    assert main(["import", str(source), "--to", str(other), "--language", "en", *beside]) == 0
    assert fingerprint(other) == before


def test_common_voice_keeps_its_splits_speakers_and_quotes(tmp_path: Path) -> None:
    source = common_voice(tmp_path / "cv")
    write_audio(source / "clips/common_voice_9.mp3", seed=9, seconds=1.0)
    with (source / "train.tsv").open("a") as file:
        file.write('c9\tcommon_voice_9.mp3\t"Yes," she said.\t2\tteens\t\ten\n')
        file.write("c9\tgone.mp3\tnot there\t2\tteens\t\ten\n")
    rows = imported(source, tmp_path / "to")
    assert {text: row.split for text, row in rows.items()} == {
        **{f"words {i}": "train" for i in range(4)},
        "words 4": "validation",
        "words 5": "test",
        '"Yes," she said.': "train",
    }
    assert rows["words 3"].speaker == "c3"
    assert rows["words 3"].group["accent"] == "Scottish"
    assert rows["words 3"].group["age"] == "twenties"
    found = left_out(tmp_path / "to")
    tables = ["dev.tsv", "test.tsv", "train.tsv"]
    assert sorted(found) == [*tables, "train.tsv line 7", "validated.tsv"]
    assert all(f"columns of {name} that are not used: up_votes;" in found[name] for name in tables)
    assert f"looked in {source} and its folders clips, audio" in found["train.tsv line 7"]
    assert "the format commonvoice doesn't read it" in found["validated.tsv"]


def test_audio_of_a_span_is_the_span(tmp_path: Path) -> None:
    source = nemo(tmp_path / "nemo")
    rows = imported(source, tmp_path / "to")
    for i in range(4):
        row = rows[f"words {i}"]
        mine = read_audio(row.path)
        theirs = read_audio(source.parent / "long.wav", start=10.0 * i, end=10.0 * i + 2.5)
        assert np.abs(mine - theirs).max() <= 1 / 32768
    group = rows["words 2"].group
    assert group == {
        "recording": "long.wav",
        "recording_start": "20.000",
        "recording_end": "22.500",
    }
    assert len({row.split for row in rows.values()}) == 1  # one recording


def test_splits_of_folders_and_files_are_kept(tmp_path: Path) -> None:
    for name in ("audiofolder", "saved", "parquet", "kaldi"):
        source = SAMPLES[name](tmp_path / name)
        to = tmp_path / f"{name}-to"
        rows = imported(source, to, recordings=str(tmp_path / name))
        assert [text for text, row in rows.items() if row.split == "test"] == ["words 3"]
        found = {row.reference: row.split for row in check(to, SPEECH, divide=False).rows}
        assert found == {
            "words 0": "train",
            "words 1": "train",
            "words 2": "train",
            "words 3": "test",
        }, name


def test_a_command_in_wav_scp_is_never_run(tmp_path: Path) -> None:
    source = kaldi(tmp_path / "kaldi")
    trap = tmp_path / "ran"
    (source / "train/wav.scp").write_text(f"call-train touch {trap} |\n")
    import_speech(source, tmp_path / "to")
    assert not trap.exists()
    found = left_out(tmp_path / "to")
    assert "doesn't run: touch" in found["train/segments u0"]
    assert "run it yourself" in found["train/segments u0"]


def test_kaldi_without_segments_and_with_sides(tmp_path: Path) -> None:
    folder = tmp_path / "kaldi"
    folder.mkdir()
    sides = np.stack([noise(1, 4.0), 0.5 * noise(2, 4.0)], 1)
    soundfile.write(folder / "call.wav", sides, 16_000)
    (folder / "wav.scp").write_text(
        "call-A call.wav\ncall-B call.wav\nlost\tgone.wav\nx a.ark:12\n"
    )
    (folder / "text").write_text("call-A hello there\ncall-B good morning\nlost a\nx b\n")
    (folder / "reco2file_and_channel").write_text("call-A call A\ncall-B call B\n")
    rows = imported(folder, tmp_path / "to")
    for text, side in (("hello there", 0), ("good morning", 1)):
        assert np.abs(read_audio(rows[text].path) - sides[:, side]).max() < 1e-4
        assert rows[text].group["recording_channel"] == str(side)
    assert sorted(left_out(tmp_path / "to")) == ["kaldi/wav.scp lost", "kaldi/wav.scp x"]


def test_kaldi_with_a_mark_double_keys_and_lines_without_sound(tmp_path: Path) -> None:
    source = kaldi(tmp_path / "data")
    folder = next(iter(sorted(source.rglob("text")))).parent
    text = folder / "text"
    lines = text.read_text().splitlines()
    key = lines[0].split()[0]
    text.write_text("\n".join([*lines, f"{key} other words", "nobody is here"]), "utf-8-sig")
    result = import_speech(source, tmp_path / "to")
    reasons = {each.where.split("/", 1)[1]: each.found for each in result.left_out}
    assert reasons[f"text {key}"] == "the key has several lines"
    assert "no such entry" in reasons["text nobody"]
    assert "other words" not in (tmp_path / "to/manifest.jsonl").read_text()


def test_voices_become_speakers(tmp_path: Path) -> None:
    rows = imported(vtt(tmp_path / "talks"), tmp_path / "to")
    assert {text: row.speaker for text, row in rows.items()} == {
        "words 0": "Anna Berg",
        "words 1": "talk.m4a: Agent",  # a role: in each call it is somebody else
        "words 2": "Anna Berg",
        "words 3": "talk.m4a: Agent",
    }
    assert rows["words 0"].group["recording_start"] == "1.250"
    assert len(read_audio(rows["words 0"].path)) == pytest.approx(1.75 * 16_000, abs=2)
    assert list(left_out(tmp_path / "to")) == ["talk.en.vtt at 8.50 s"]


def test_voices_at_the_same_time_are_left_out(tmp_path: Path) -> None:
    write_audio(tmp_path / "a/talk.wav", seconds=30.0)
    cues = [("A", 0, 2), ("A", 2, 6), ("B", 5, 8), ("B", 9, 11), ("B", 11, 13)]
    (tmp_path / "a/talk.vtt").write_text(
        "WEBVTT\n\n"
        + "".join(f"00:{s:02}.000 --> 00:{e:02}.000\n<v {v}>{v}{s}\n\n" for v, s, e in cues)
    )
    rows = imported(tmp_path / "a", tmp_path / "to")
    assert sorted(rows) == ["A0", "B9 B11"]
    assert sorted(left_out(tmp_path / "to")) == ["talk.vtt at 2.00 s", "talk.vtt at 5.00 s"]


def test_translations_are_not_transcripts(tmp_path: Path) -> None:
    source = srt(tmp_path / "talks")
    (source / "talk.srt").rename(source / "talk.en.srt")
    (source / "talk.de.srt").write_text((source / "talk.en.srt").read_text().replace("words", "w"))
    import_speech(source, tmp_path / "to")
    assert "several languages" in left_out(tmp_path / "to")["talk.wav"]
    assert "words 0" in imported(source, tmp_path / "en", language="en")
    assert "w 0" in imported(source, tmp_path / "de", language="de")


@pytest.mark.parametrize(
    ("columns", "spans", "whole"),
    [
        (("begin_time", "end_time"), [(119.1, 122.1), (0.2, 1.9), (0.0, 3.0)], True),
        (("start", "end"), [(119.1, 122.1), (80.0, 83.0), (4.0, 7.0)], True),
        (("start", "end"), [(0.2, 1.9), (0.5, 2.5), (119.1, 122.1)], False),  # one wrong row
        (("start", "end"), [(0.2, 1.9), (0.5, 2.5), (1.0, 3.0)], False),
        (("begin_time", "end_time"), [(0.2, 1.9), (0.5, 2.5), (0.0, 3.0)], False),
    ],
)
def test_times_in_the_recording_that_clips_were_cut_from(
    tmp_path: Path, columns: tuple[str, str], spans: list[tuple[float, float]], whole: bool
) -> None:
    source = tmp_path / "source"
    rows = []
    for i, (start, end) in enumerate(spans):
        write_audio(source / f"{i}.wav", seed=i, seconds=3.0)
        times = dict(zip(columns, (start, end), strict=True))
        rows.append({"file": f"{i}.wav", "text": f"words {i}"} | times)
    table(source / "list.csv", rows)
    found = imported(source, tmp_path / "to")
    seconds = {text: soundfile.info(row.path).duration for text, row in found.items()}
    if whole:
        assert seconds == dict.fromkeys(("words 0", "words 1", "words 2"), 3.0)
        assert "cut from" in left_out(tmp_path / "to")["list.csv"]
    else:
        assert seconds["words 0"] == pytest.approx(1.7)


@pytest.mark.parametrize("word", ["sdh", "cc", "sub", "forced", "orig"])
def test_a_suffix_that_names_no_language_is_none(tmp_path: Path, word: str) -> None:
    source = srt(tmp_path / "talks")
    (source / "talk.srt").rename(source / f"talk.{word}.srt")
    assert imported(source, tmp_path / "to")["words 0"].language is None
    assert imported(source, tmp_path / "en", language="English")["words 0"].language == "en"


def test_languages_of_a_table_become_codes_and_unknown_ones_are_left_out(tmp_path: Path) -> None:
    named = ["German", "nl-NL", "jv", "zh-TW", "N/A", "klingon"]
    rows = [
        {"path": f"{i}.wav", "sentence": f"words {i}", "language": name, "speaker": "None"}
        for i, name in enumerate(named)
    ]
    for i in range(len(named)):
        write_audio(tmp_path / f"source/{i}.wav", seed=i, seconds=1.0)
    table(tmp_path / "source/list.csv", rows)
    found = imported(tmp_path / "source", tmp_path / "to")
    assert [found[f"words {i}"].language for i in range(5)] == ["de", "nl", "jw", "zh", None]
    assert {row.speaker for row in found.values()} == {None}
    assert "'klingon' is no language" in left_out(tmp_path / "to")["list.csv line 7"]


def test_names_of_classes_are_read_in_place_of_their_numbers(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = hf_dataset(tmp_path / "raw").add_column("language", [1, 0, 1, 0])
    whole = whole.cast_column("language", datasets.ClassLabel(names=["en", "de"]))
    (tmp_path / "set").mkdir()
    whole.to_parquet(str(tmp_path / "set/train.parquet"))
    found = imported(tmp_path / "set", tmp_path / "to")
    assert [found[f"words {i}"].language for i in range(4)] == ["de", "en", "de", "en"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("talk.vtt", b"no subtitles"), ("talk.srt", b"\xff\xfe\xfa"), ("talk.vtt", b"WEBVTT\n"),
     ("talk.srt", "1\n00:00:01,000 --> 00:00:02,000\nf\xfcr\n".encode("latin-1")),
     ("talk.vtt", b"WEBVTT\n\n00:05.000 --> 00:04.000\nback\n"),
     ("talk.vtt", b"WEBVTT\n\n00:25.000 --> 00:34.000\nafter the end\n")],
)  # fmt: skip
def test_subtitles_that_are_none(tmp_path: Path, name: str, text: bytes) -> None:
    write_audio(tmp_path / "a/talk.wav", seconds=30.0)
    (tmp_path / "a" / name).write_bytes(text)
    result = import_speech(tmp_path / "a", tmp_path / "to")
    assert result.rows == 0
    assert {each.kind for each in result.left_out[1:]} <= {"unused-recording"}
    assert name in result.left_out[0].where


@given(
    st.lists(
        st.tuples(st.floats(0, 12), st.floats(0.05, 29), st.sampled_from("AB"), st.booleans()),
        max_size=25,
    )
)
def test_joined_cues_keep_every_word_and_the_limit(
    parts: list[tuple[float, float, str, bool]],
) -> None:
    cues, now = [], 0.0
    for i, (gap, length, voice, ends) in enumerate(parts):
        cues.append(Cue(now + gap, now + gap + length, f"w{i}" + "." * ends, voice))
        now += gap + length
    found = join(cues)
    assert " ".join(cue.text for cue in found) == " ".join(cue.text for cue in cues)
    for cue in found:
        inside = [c for c in cues if cue.start <= c.start and c.end <= cue.end]
        assert cue.end - cue.start <= 30
        assert {c.voice for c in inside} == {cue.voice}
        assert all(b.start - a.end <= GAP for a, b in pairwise(inside))
    for a, b in pairwise(found):
        parted = (
            a.voice != b.voice
            or b.start - a.end > GAP
            or (a.end - a.start >= ENOUGH and a.text.endswith("."))
            or b.end - a.start > 30
            or any(c.end - a.start > 30 for c in cues if b.start <= c.start and c.end <= b.end)
        )
        assert parted


def test_rows_that_cannot_be_imported_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a"
    for i in range(2):
        write_audio(folder / f"{i}.wav", seed=i, seconds=1.0)
    write_audio(folder / "long.wav", seconds=31.0)
    (folder / "broken.wav").write_bytes(b"RIFFxxxx")
    call = np.stack([noise(1, 2.0), noise(2, 2.0)], 1)
    soundfile.write(folder / "call.wav", call, 16_000)
    (folder / "list.csv").write_text(
        "file,text,start,end\n"
        "0.wav,words,,\n"
        "1.wav,,,\n"
        "long.wav,too long,,\n"
        "long.wav,a part,1.5,0:04\n"
        "long.wav,no time,soon,\n"
        "long.wav,backwards,4,3\n"
        "broken.wav,broken,,\n"
        "call.wav,two sides,,\n"
        ",nameless,,\n"
        "0.wav,one too many,,,,\n"
    )
    assert main(["import", str(folder / "list.csv"), "--to", str(tmp_path / "to")]) == 0
    out = capsys.readouterr().out
    assert "2 rows" in out
    assert "8 items" in out
    found = left_out(tmp_path / "to")
    assert [int(where.split()[-1]) for where in found] == [3, 4, 6, 7, 8, 9, 10, 11]
    assert "--align" in found["list.csv line 4"]
    assert "--channel 0" in found["list.csv line 9"]
    assert all("cure" not in text and len(text) > 20 for text in found.values())
    rows = imported(folder / "list.csv", tmp_path / "to", channel="mix")
    assert sorted(rows) == ["a part", "two sides", "words"]
    assert read_audio(rows["two sides"].path) == pytest.approx(call.mean(axis=1), abs=1e-4)


def test_a_changed_source_changes_the_import(tmp_path: Path) -> None:
    source, to = plain_csv(tmp_path / "a"), tmp_path / "to"
    imported(source, to)
    before = {path.name for path in (to / "audio").iterdir()}
    write_audio(source.parent / "audio/1.wav", seed=99, seconds=1.0)
    rows = imported(source, to)
    after = {path.name for path in (to / "audio").iterdir()}
    assert len(before & after) == 3
    assert len(after) == 4
    expected = read_audio(source.parent / "audio/1.wav")
    assert read_audio(rows["words 1"].path) == pytest.approx(expected, abs=1e-4)


def test_an_import_spares_what_is_not_its_own(tmp_path: Path) -> None:
    source = plain_csv(tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/audio.txt").write_text("keep")
    with pytest.raises(ConfigError, match="holds no import"):
        import_speech(source, tmp_path / "mine")
    with pytest.raises(ConfigError, match="is inside"):
        import_speech(tmp_path / "a", tmp_path / "a/to")
    with pytest.raises(ConfigError, match="kaldi"):
        import_speech(source, tmp_path / "to", "kadli")
    with pytest.raises(ConfigError, match="--channel"):
        import_speech(source, tmp_path / "to", None, {"channel": "left"})
    with pytest.raises(ConfigError, match="--base"):
        import_speech(source, tmp_path / "to", None, {"align": True})
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="not recognised"):
        import_speech(tmp_path / "nothing", tmp_path / "to")
    for wrong in (["--format", "kadli"], ["--modality", "speach"], ["--modality", "image"]):
        assert main(["import", str(source), "--to", str(tmp_path / "to"), *wrong]) == 2


def test_a_table_without_the_columns_is_one_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sound,words\nx,y\nz,w\n")
    result = import_speech(path, tmp_path / "to")
    assert len(result.left_out) == 1
    assert "no column for audio; its columns are sound, words" in result.left_out[0].found
    assert "2 items left out" in result.describe()
    assert not (tmp_path / "to").exists()


def test_an_hour_is_cut_without_being_held(tmp_path: Path) -> None:
    rate, minutes = 48_000, 20
    path = tmp_path / "a/long.wav"
    path.parent.mkdir()
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        for i in range(minutes):
            file.write(noise(i, 60.0, rate))
    lines = [f"long.wav,words {i},{60 * i + 1},{60 * i + 3}" for i in range(minutes)]
    (tmp_path / "a/list.csv").write_text("file,text,start,end\n" + "\n".join(lines))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert import_speech(tmp_path / "a", tmp_path / "to").rows == minutes
    # The whole of it is 220 MiB as float32.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


@given(st.binary(max_size=300))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_table_or_subtitle_raises_anything_else(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "a"
    if not (folder / "x.wav").exists():
        write_audio(folder / "x.wav")
    (folder / "list.csv").write_bytes(b"file,text\n" + data)
    (folder / "x.vtt").write_bytes(b"WEBVTT\n\n00:00.000 --> 00:00.200\n" + data)
    (folder / "x.srt").write_bytes(b"1\n00:00:00,000 --> 00:00:00,200\n" + data)
    for layout in ("table", "subtitles"):
        try:
            result = import_speech(folder, tmp_path / layout, layout)
        except DataError:
            continue
        for row in check(tmp_path / layout, SPEECH, strict=False).rows if result.rows else ():
            assert row.reference


def test_every_layout_has_a_sample() -> None:
    assert {CALLED.get(name, name) for name in SAMPLES} == set(LAYOUTS)
