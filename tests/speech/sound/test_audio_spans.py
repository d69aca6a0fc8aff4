import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from mmtune.data.check import check
from mmtune.data.manifest import write_manifest
from mmtune.speech.corpus.check_recording import inspect
from mmtune.speech.sound import sndfile
from mmtune.speech.sound.read import AudioFault, content_of, read_audio, read_channels, read_row
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.stages import seconds_of
from tests.data.pieces import SPEECH, noise


def row(path: Path, text: str = "as many words as half a minute holds", **extra: Any) -> SpeechRow:
    return SpeechRow(id="r", audio=str(path), text=text, **extra)


def kinds(path: Path, **extra: Any) -> list[str]:
    return [finding.kind for finding in inspect(row(path, **extra)).findings]


def call(path: Path, seconds: int = 60, rate: int = 8_000) -> tuple[np.ndarray, np.ndarray]:
    """Two people who take turns of three seconds, a side each."""
    turns = np.arange(seconds * rate) // (3 * rate) % 2
    sides = [
        noise(i, seconds, rate) * (turns == i) + noise(9 + i, seconds, rate) * 0.03
        for i in range(2)
    ]
    soundfile.write(path, np.stack(sides, 1), rate, subtype="FLOAT")
    return sides[0], sides[1]


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3"])
def test_a_span_is_that_part_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a.{name}"
    soundfile.write(path, noise(0, 40.0), 16_000)
    whole, part = read_audio(path), read_row(row(path, start=31.5, end=38.25))
    assert len(part) == 6.75 * 16_000 == seconds_of(row(path, start=31.5, end=38.25)) * 16_000
    expected = whole[504_000:612_000]
    if name in ("wav", "flac"):
        assert np.array_equal(part, expected)
    else:
        assert np.corrcoef(part[2000:], expected[2000:])[0, 1] > 0.999
    assert len(read_row(row(path, start=35.0))) == pytest.approx(5 * 16_000, abs=2000)


def test_the_window_limits_the_span_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(0, 70.0), 16_000)
    assert (
        kinds(path) == kinds(path, start=30.0) == kinds(path, start=1.0, end=31.5) == ["too-long"]
    )
    assert kinds(path, start=40.0) == kinds(path, start=1.0, end=31.0) == []
    inspection = inspect(row(path, start=60.0, end=62.0, duration_s=2.0))
    assert (inspection.facts["duration_s"], inspection.findings) == (2.0, [])
    assert kinds(path, start=60.0, end=70.05) == []  # rounded times
    assert kinds(path, start=60.0, end=71.0) == kinds(path, start=70.0) == ["no-span"]
    with pytest.raises(AudioFault, match=r"70\.00 s long, but 60 s to 71 s"):
        read_audio(path, start=60.0, end=71.0)


def test_damage_outside_of_the_span_does_not_matter(tmp_path: Path) -> None:
    samples = noise(0, 10.0)
    samples[100_000] = np.nan
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    assert kinds(path, start=1.0, end=3.0) == []
    assert kinds(path, start=6.0, end=7.0) == ["not-finite"]


def test_each_span_and_channel_has_its_own_content(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    call(path)
    parts: list[dict[str, Any]] = [
        {},
        {"start": 1.0},
        {"start": 1.0, "end": 2.0},
        {"channel": 0},
        {"channel": 1},
        {"channel": "mix"},
        {"channel": 0, "end": 2.0},
    ]
    assert len({content_of(row(path, **part)) for part in parts}) == len(parts)
    twin = tmp_path / "copy.wav"
    twin.write_bytes(path.read_bytes())
    for part in parts:
        assert content_of(row(twin, **part)) == content_of(row(path, **part))


def test_two_different_channels_are_never_mixed_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    call(path)
    with pytest.raises(AudioFault) as caught:
        read_audio(path)
    assert caught.value.kind == "channels"
    assert '"channel": 0 or "channel": 1' in caught.value.cure
    assert '"mix"' in caught.value.cure
    assert kinds(path, end=20.0) == ["channels"]
    for channel in (0, 1, "mix"):
        assert kinds(path, end=20.0, channel=channel) == []
    both = read_channels(path)
    assert both.shape == (2, 60 * 16_000)
    for i in (0, 1):
        assert np.allclose(read_audio(path, channel=i), both[i], atol=1e-5)
    assert np.allclose(read_audio(path, channel="mix"), both.mean(axis=0), atol=1e-5)
    with pytest.raises(AudioFault, match="2 channels, but channel 2"):
        read_audio(path, channel=2)
    assert kinds(path, end=20.0, channel=2) == ["no-channel"]


def stereo(path: Path, left: np.ndarray, right: np.ndarray, rate: int = 16_000) -> Path:
    soundfile.write(path, np.stack([left, right], 1), rate, subtype="FLOAT")
    return path


def test_channels_of_one_source(tmp_path: Path) -> None:
    turns = np.repeat(np.random.default_rng(1).random(40) > 0.4, 3_200)
    voice = noise(1, 8.0) * turns
    hum = [0.01 * noise(2 + i, 8.0) for i in range(2)]
    dual = stereo(tmp_path / "dual.wav", voice, voice)
    assert kinds(dual) == []
    assert np.allclose(read_audio(dual), voice, atol=1e-6)
    panned = stereo(tmp_path / "panned.wav", voice + hum[0], 0.5 * voice + hum[1])
    assert kinds(panned) == ["stereo"]
    assert kinds(panned, channel="mix") == []
    # Two microphones a metre apart: the samples agree in nothing, the syllables do.
    apart = stereo(tmp_path / "apart.wav", voice + hum[0], np.roll(voice, 48) + hum[1])
    assert kinds(apart) == ["stereo"]
    opposite = stereo(tmp_path / "opposite.wav", voice, -voice)
    assert kinds(opposite) == ["channels"]  # the mean of them is silence


def test_a_side_without_sound(tmp_path: Path) -> None:
    voice = noise(1, 3.0)
    path = stereo(tmp_path / "a.wav", 1e-4 * noise(2, 3.0), voice)
    assert kinds(path) == ["one-sided"]
    assert np.array_equal(read_audio(path), voice)
    assert kinds(path, channel=0) == ["silent"]
    assert kinds(stereo(tmp_path / "b.wav", 0 * voice, 0 * voice)) == ["silent"]


def test_what_a_row_may_say() -> None:
    def made(**values: Any) -> SpeechRow:
        return SpeechRow.model_validate({"id": "r", "audio": "a.wav", "text": "words"} | values)

    assert made(channel=1).channel == made(channel="1").channel == 1
    assert made(channel="mix").channel == "mix"
    described = made(channel="telephone", group={"site": "north"})
    assert described.channel is None
    assert described.group == {"channel": "telephone", "site": "north"}
    assert made(channel=None).channel is None
    assert made(start=1, end=2.5).end == 2.5
    for wrong in (
        {"start": 2.0, "end": 2.0},
        {"start": -1.0},
        {"end": float("inf")},
        {"channel": -1},
        {"channel": True},
        {"channel": 8},
        {"nonspeech": True},
        {"nonspeech": "yes", "text": ""},
    ):
        with pytest.raises(ValidationError):
            made(**wrong)
    assert made(nonspeech=True, text="").nonspeech


def test_nothing_said_must_be_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0, 2.0), 16_000)
    (finding,) = inspect(row(tmp_path / "a.wav", text="")).findings
    assert finding.kind == "empty-text"
    assert '"nonspeech": true' in finding.cure
    assert inspect(row(tmp_path / "a.wav", text="", nonspeech=True)).findings == []


def test_rows_of_one_recording_stay_in_one_split(tmp_path: Path) -> None:
    for name in range(6):
        soundfile.write(tmp_path / f"{name}.flac", noise(name, 12.0), 16_000)
    values = [
        {"id": f"{n}-{i}", "audio": f"{n}.flac", "text": f"w {n} {i}", "start": i, "end": i + 1}
        for n in range(6)
        for i in range(10)
    ]
    write_manifest(tmp_path / "manifest.jsonl", values)
    data = check(tmp_path, SPEECH)
    assert len(data.rows) == 60
    assert len(data.split("test")) > 0
    for name in range(6):
        assert len({r.split for r in data.rows if r.path.stem == str(name)}) == 1


def test_a_part_of_an_mp3_is_that_of_the_whole_and_nothing_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, rate = tmp_path / "call.mp3", 8_000
    noise = np.random.default_rng(0).normal(0, 0.1, (12 * rate, 2)).astype(np.float32)
    noise[::2] *= np.linspace(0, 1, 6 * rate, dtype=np.float32)[:, None]
    soundfile.write(path, noise, rate, format="MP3")
    whole = read_audio(path, channel=0)
    for start in (1.3, 4.0, 7.27, 11.0):
        part = read_audio(path, channel=0, start=start, end=start + 0.9)
        inner = slice(800, -800)  # the resampler has no neighbours at the ends of a part
        same = whole[round(start * 16_000) :][: len(part)]
        np.testing.assert_allclose(part[inner], same[inner], atol=2e-3)
    assert capfd.readouterr().err == ""


def test_what_a_c_library_writes_is_discarded_and_no_more(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with sndfile._silent_stderr():
        os.write(2, b"part2_3_length too large")
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"
