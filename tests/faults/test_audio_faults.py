import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.errors import DataError
from mmtune.speech.corpus.check_recording import inspect
from mmtune.speech.sound.read import AudioFault, probe, read_audio
from mmtune.speech.speech_row import SpeechRow
from tests.data.pieces import noise, write_audio
from tests.faults.files import flac_bomb, flac_claiming, riff

FORMATS: dict[str, dict[str, Any]] = {
    "wav": {},
    "float.wav": {"subtype": "FLOAT"},
    "rf64.wav": {"format": "RF64"},
    "flac": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
    "aiff": {},
}


def found(path: Path, text: str = "words", **extra: Any) -> list[str]:
    return [
        f.kind for f in inspect(SpeechRow(id="r", audio=str(path), text=text, **extra)).findings
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_passes(tmp_path: Path, name: str) -> None:
    path = write_audio(tmp_path / f"a.{name}", seconds=1.5, **FORMATS[name])
    inspection = inspect(SpeechRow(id="r", audio=str(path), text="words"))
    assert inspection.findings == []
    assert inspection.facts["duration_s"] == pytest.approx(1.5, abs=0.1)
    assert inspection.content


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_anywhere_is_found(tmp_path: Path, name: str) -> None:
    whole = write_audio(tmp_path / f"a.{name}", seconds=1.5, **FORMATS[name]).read_bytes()
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.99):
        path = tmp_path / f"cut.{name}"
        path.write_bytes(whole[: max(1, int(share * len(whole)))])
        assert found(path)[0] in ("truncated", "undecodable"), share
        with pytest.raises(DataError, match="cut"):
            read_audio(path)


def test_a_wav_that_promises_more_than_there_is(tmp_path: Path) -> None:
    data = (noise(0, 1.0) * 32767).astype("<i2").tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(riff(data[: len(data) // 2], claimed=len(data)))
    (finding,) = inspect(SpeechRow(id="r", audio=str(path), text="x")).findings
    assert finding.kind == "truncated"
    assert "16044 bytes, but its header promises 32044" in finding.message


@pytest.mark.parametrize("unknown", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFF000])
def test_a_wav_written_to_a_pipe_is_not_truncated(tmp_path: Path, unknown: int) -> None:
    samples = noise(0, 0.5)
    path = tmp_path / "a.wav"
    path.write_bytes(riff((samples * 32767).astype("<i2").tobytes(), claimed=unknown))
    assert found(path) == []
    assert read_audio(path) == pytest.approx(samples, abs=1e-4)


def test_chunks_around_the_samples_do_not_confuse(tmp_path: Path) -> None:
    data = (noise(0, 0.5) * 32767).astype("<i2").tobytes()
    whole = riff(data)
    odd = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    path = tmp_path / "a.wav"
    path.write_bytes(whole[:12] + odd + whole[12:] + odd)
    assert found(path) == []
    path.write_bytes(whole[:12] + odd + whole[12:-2])
    assert found(path) == ["truncated"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 70_000, 99_999])
def test_one_sample_that_is_no_number(tmp_path: Path, value: float, place: int) -> None:
    samples = noise(0, 100_000 / 16_000)
    samples[place] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    assert found(tmp_path / "a.wav") == ["not-finite"]
    with pytest.raises(DataError, match="NaN or Inf"):
        read_audio(tmp_path / "a.wav")


def test_the_flac_bomb_is_judged_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.flac"
    flac_bomb(path)
    assert path.stat().st_size < 100_000
    with soundfile.SoundFile(path) as file:
        assert 12 < file.frames / file.samplerate < 13
        assert file.frames * file.channels * 4 > 240 * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found(path) == ["size-bomb"]
    with pytest.raises(DataError, match="claims"):
        read_audio(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_a_header_that_lies_about_the_length(tmp_path: Path) -> None:
    whole = write_audio(tmp_path / "a.flac", seconds=3.0).read_bytes()
    path = tmp_path / "lie.flac"
    flac_claiming(path, whole, 16_000 * 12)
    assert found(path) == ["truncated"]
    flac_claiming(path, whole, 2**36 - 1)
    assert found(path) == ["too-long"]
    for stated in (16_000, 0):  # less than there is, or unknown: all of it is decoded
        flac_claiming(path, whole, stated)
        assert set(found(path)) <= {"stated-length"}
        assert len(read_audio(path)) == 48_000


def test_damage_in_the_middle_of_a_flac(tmp_path: Path) -> None:
    data = bytearray(write_audio(tmp_path / "a.flac", seconds=3.0).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    (tmp_path / "a.flac").write_bytes(data)
    assert found(tmp_path / "a.flac") == ["truncated"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus", "a.aiff"])
def test_what_only_calls_itself_audio(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert found(path) == ["empty"]
    for junk in (b"\0" * 5000, b"<html>not found</html>", bytes(range(256)) * 20):
        path.write_bytes(junk)
        assert found(path)[0] in ("undecodable", "truncated")
    path.unlink()
    assert found(path) == ["missing"]
    path.mkdir()
    assert found(path) == ["not-a-file"]


def test_formats_that_are_not_read_name_the_converter(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A ")
    (finding,) = inspect(SpeechRow(id="r", audio=str(path), text="x")).findings
    assert (finding.kind, "ffmpeg" in finding.cure) == ("undecodable", True)


def test_no_samples_silence_and_words_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(riff(b""))
    assert found(path) == ["zero-length"]
    assert len(read_audio(path)) == 0
    soundfile.write(path, np.zeros(8000), 16_000)
    assert found(path) == ["silent"]
    assert found(path, text=" ") == []  # silence of which nothing is said: a useful row
    write_audio(path)
    assert found(path, text="") == ["empty-text"]
    assert found(path, duration_s=0.31) == []
    assert found(path, duration_s=3.0) == ["duration"]


def test_the_window_is_the_limit(tmp_path: Path) -> None:
    assert found(write_audio(tmp_path / "a.flac", seconds=30.0), "many words " * 9) == []
    assert found(write_audio(tmp_path / "b.flac", seconds=30.1)) == ["too-long"]
    assert len(read_audio(tmp_path / "b.flac")) == 30.1 * 16_000
    with pytest.raises(DataError, match="limit here is 10 s"):
        read_audio(tmp_path / "b.flac", max_seconds=10)


@pytest.mark.parametrize(
    ("rate", "kind"),
    [(1, "undecodable"), (2, "undecodable"), (999, "undecodable"), (192_001, "size-bomb")],
)
def test_an_impossible_rate_is_judged_by_its_header(tmp_path: Path, rate: int, kind: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(20_000, 0.5), rate)
    assert found(tmp_path / "a.wav") == [kind]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 6), (192_000, 1)])
def test_reading_gives_16_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    t = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    gains = np.linspace(0.5, 1.5, channels) if channels > 1 else np.ones(1)
    soundfile.write(tmp_path / "a.wav", tone[:, None] * gains, rate, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert samples.shape == (16_000,)
    theirs = soxr.resample(tone.astype(np.float32), rate, 16_000)
    assert samples == pytest.approx(theirs, abs=1e-5)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() == 440


def test_other_libraries_read_the_same(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.flac", seconds=5.0)  # several blocks
    theirs, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(read_audio(path), theirs)


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3", "aiff", "rf64.wav"])
@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_damage_raises_anything_else(tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = tmp_path / f"whole.{name}"
    if not whole.exists():
        write_audio(whole, **FORMATS[name])
    damaged = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(
            st.integers(0, min(200, len(damaged) - 1)) | st.integers(0, len(damaged) - 1)
        )
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{name}"
    path.write_bytes(damaged)
    inspection = inspect(SpeechRow(id="r", audio=str(path), text="x"))
    assert inspection.content or inspection.findings
    try:
        samples = read_audio(path, max_seconds=60)
    except AudioFault:
        return
    assert np.isfinite(samples).all()


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[20] = 0  # the format's tag in a WAV's header: PCM is 1
    path.write_bytes(data)
    with pytest.raises(AudioFault, match="codec is unknown"):
        probe(path)
    assert [f.kind for f in inspect(SpeechRow(id="r", audio=str(path), text="x")).findings] == [
        "undecodable"
    ]


def test_probe_decodes_nothing(tmp_path: Path) -> None:
    data = bytearray(write_audio(tmp_path / "a.flac", seconds=3.0).read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (tmp_path / "a.flac").write_bytes(data)
    assert probe(tmp_path / "a.flac").frames == 48_000
