import resource
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.data.check import check
from mmtune.speech.corpus.check_recording import inspect
from mmtune.speech.sound.read import AudioFault, probe, read_audio, read_channels
from mmtune.speech.speech_row import SpeechRow
from tests.data.pieces import SPEECH
from tests.speech.encoded import CODECS, encode, tones


def found(path: Path, **extra: Any) -> list[str]:
    row = SpeechRow(id="r", audio=str(path), text="some words", **extra)
    return [finding.kind for finding in inspect(row).findings]


def sample(path: Path, seconds: float = 2.0, channels: int = 1, **extra: Any) -> Path:
    codec, rate = CODECS[path.suffix[1:]]
    return encode(path, tones(seconds, rate, channels), rate, codec, **extra)


@pytest.mark.parametrize("name", CODECS)
def test_a_whole_file_reads_as_what_was_encoded(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path / f"a.{name}")
    assert found(path) == []
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples, 32_000))
    assert spectrum.argmax() == pytest.approx(600, abs=6)  # 300 Hz in steps of half a Hz
    assert np.quantile(np.abs(samples), 0.99) == pytest.approx(0.57, abs=0.06)


@pytest.mark.parametrize("name", CODECS)
def test_a_span_is_the_same_part_of_the_whole(tmp_path: Path, name: str) -> None:
    codec, rate = CODECS[name]
    t = np.arange(6 * rate) / rate
    sweep = (0.5 * np.sin(2 * np.pi * (200 * t + 60 * t * t))).astype(np.float32)
    path = encode(tmp_path / f"a.{name}", sweep[:, None], rate, codec)
    whole = read_audio(path)
    part = read_audio(path, start=3.0, end=4.5)
    assert len(part) == 24_000
    # Not to the sample: the codec has another past, and WebM's times are whole milliseconds.
    alike = [
        np.corrcoef(part[800:-800], whole[48_800 + shift : 71_200 + shift])[0, 1]
        for shift in range(-16, 17)
    ]
    assert max(alike) > 0.99


@pytest.mark.parametrize("name", CODECS)
def test_a_cut_is_found(tmp_path: Path, name: str) -> None:
    whole = sample(tmp_path / f"a.{name}", 4.0).read_bytes()
    for share in (0.001, 0.01, 0.1, 0.5, 0.8):
        path = tmp_path / f"cut.{name}"
        path.write_bytes(whole[: max(1, int(share * len(whole)))])
        kinds = found(path)
        if name in ("aac", "amr"):  # frames without a container: a shorter file is a whole one
            assert kinds == [] or kinds[0] in ("truncated", "undecodable"), share
            continue
        assert kinds, share
        assert kinds[0] in ("truncated", "undecodable"), (share, kinds)
        with pytest.raises(AudioFault, match="cut"):
            read_audio(path)


def test_an_index_before_the_data_does_not_hide_a_cut(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.m4a", 6.0, options={"movflags": "faststart"})
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    path.write_bytes(data[: len(data) * 2 // 3])
    assert found(path) == ["truncated"]


def test_a_video_is_its_sound(tmp_path: Path) -> None:
    path = sample(tmp_path / "talk.mp4", 3.0, video=True)
    assert found(path) == []
    assert len(read_audio(path)) / 16_000 == pytest.approx(3.0, abs=0.15)


def test_a_picture_without_sound(tmp_path: Path) -> None:
    path = encode(tmp_path / "mute.mp4", np.zeros((0, 1), np.float32), 16_000, "aac", video=True)
    assert found(path) == ["no-audio"]


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    samples = tones(2.0, 16_000)
    samples[20_000] = np.nan
    path = encode(tmp_path / "a.mkv", samples, 16_000, "pcm_f32le")
    assert found(path) == ["not-finite"]


def test_more_channels_than_a_recording_has(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=16_000, layout="hexadecagonal")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16 * 1000), np.int16), format="s16", layout="hexadecagonal"
        )
        frame.rate = 16_000
        out.mux(track.encode(frame))
        out.mux(track.encode(None))
    assert found(path) == ["size-bomb"]


def test_hours_of_silence_are_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "long.mka"
    with av.open(str(path), "w") as out:
        track = out.add_stream("flac", rate=48_000, layout="stereo")
        zeros = av.AudioFrame.from_ndarray(
            np.zeros((1, 2 * 4608), np.int16), format="s16", layout="stereo"
        )
        for i in range(5_000):  # eight minutes, and 176 MiB of samples
            zeros.rate, zeros.pts = 48_000, i * 4608
            out.mux(track.encode(zeros))
        out.mux(track.encode(None))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found(path) == ["too-long"]
    assert found(path, start=440.0, end=450.0) == ["silent"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB


def test_two_sides_of_a_call_in_a_container(tmp_path: Path) -> None:
    path = sample(tmp_path / "call.m4a", channels=2)
    assert found(path) == ["channels"]
    both = read_channels(path)
    assert both.shape[0] == 2
    for channel in (0, 1):
        assert found(path, channel=channel) == []
        assert np.array_equal(read_audio(path, channel=channel), both[channel])


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = sample(tmp_path / "secret.aac")
    path = tmp_path / "list.m4a"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n")
    assert found(path) == ["undecodable"]
    path.write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    assert found(path) == ["undecodable"]


def test_a_folder_of_telephone_formats(tmp_path: Path) -> None:
    for name in ("m4a", "amr", "webm"):
        sample(tmp_path / f"{name}.{name}")
        (tmp_path / f"{name}.txt").write_text(f"words of {name}")
    data = check(tmp_path, SPEECH)
    assert sorted(row.reference for row in data.rows) == [
        "words of amr",
        "words of m4a",
        "words of webm",
    ]


@pytest.mark.parametrize("name", ["m4a", "webm", "amr", "wma", "aac"])
@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_damage_raises_anything_else(tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = tmp_path / f"whole.{name}"
    if not whole.exists():
        sample(whole, 0.5)
    damaged = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(
            st.integers(0, min(300, len(damaged) - 1)) | st.integers(0, len(damaged) - 1)
        )
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{name}"
    path.write_bytes(damaged)
    inspection = inspect(SpeechRow(id="r", audio=str(path), text="x"))
    assert inspection.content or inspection.findings
    try:
        probe(path)
        samples = read_audio(path, max_seconds=60)
    except AudioFault:
        return
    assert np.isfinite(samples).all()
