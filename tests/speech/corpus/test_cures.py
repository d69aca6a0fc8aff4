"""What a finding proposes is done; then `check` and `import` pass, and the sound is the right one.

FFmpeg's commands are run by PyAV, which is built on the same libraries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.sound.info import CONVERT, CUT_TEXT
from mmtune.speech.sound.read import read_row
from tests.data.pieces import SPEECH, noise, write_audio
from tests.speech.encoded import encode

Rows = list[dict[str, Any]]


def checked(folder: Path, rows: Rows) -> Dataset:
    """Check a manifest of these rows in a folder."""
    base = {"audio": "a.wav", "text": "some words"}
    text = "".join(json.dumps(base | row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text)
    return check(folder / "manifest.jsonl", SPEECH, strict=False)


def kinds(data: Dataset) -> set[str]:
    return {f.kind for f in data.findings if not f.kind.startswith("no-")}


def ffmpeg(source: Path, target: Path) -> None:
    """`ffmpeg -i SOURCE TARGET` for a lossless target."""
    with av.open(str(source)) as container:
        resampler = av.AudioResampler(format="s16")
        blocks, rate = [], 0
        for frame in container.decode(audio=0):
            rate = frame.sample_rate
            for each in resampler.resample(frame):
                shape = (-1, each.layout.nb_channels)
                blocks.append(each.to_ndarray().reshape(shape))
    soundfile.write(target, np.concatenate(blocks), rate, subtype="PCM_16")


def call(folder: Path) -> list[np.ndarray]:
    """Two people who take turns, a side each."""
    turns = np.arange(64_000) // 16_000 % 2
    sides = [noise(i, 4.0) * (turns == i) for i in (0, 1)]
    soundfile.write(folder / "a.wav", np.stack(sides, 1), 16_000)
    return sides


def test_a_call_is_cured_by_a_channel(tmp_path: Path) -> None:
    sides = call(tmp_path)
    data = checked(tmp_path, [{}])
    (finding,) = (f for f in data.findings if f.severity == "error")
    assert '"channel": 0 or "channel": 1 (one row each)' in finding.cure
    data = checked(tmp_path, [{"id": str(i), "channel": i, "text": f"w {i}"} for i in (0, 1)])
    assert kinds(data) == set()
    for row, side in zip(data.rows, sides, strict=True):
        assert np.abs(read_row(row) - side).max() < 1e-3
    data = checked(tmp_path, [{"channel": "mix"}])
    assert kinds(data) == set()
    assert np.abs(read_row(data.rows[0]) - (sides[0] + sides[1]) / 2).max() < 1e-3


def test_one_source_in_stereo_is_confirmed(tmp_path: Path) -> None:
    voice = noise(0, 2.0)
    both = [voice, 0.7 * voice + 0.02 * noise(1, 2.0)]
    soundfile.write(tmp_path / "a.wav", np.stack(both, 1), 16_000)
    (finding,) = (f for f in checked(tmp_path, [{}]).findings if f.kind == "stereo")
    assert finding.cure.startswith('set "channel": "mix"')
    assert kinds(checked(tmp_path, [{"channel": "mix"}])) == set()


@pytest.mark.parametrize("side", [0, 1])
def test_the_channel_with_sound_is_confirmed(tmp_path: Path, side: int) -> None:
    both = [0 * noise(0, 2.0), noise(0, 2.0)]
    soundfile.write(tmp_path / "a.wav", np.stack(both if side else both[::-1], 1), 16_000)
    (finding,) = (f for f in checked(tmp_path, [{}]).findings if f.kind == "one-sided")
    assert finding.cure == f'set "channel": {side} to confirm'
    data = checked(tmp_path, [{"channel": side}])
    assert kinds(data) == set()
    assert np.abs(read_row(data.rows[0]) - noise(0, 2.0)).max() < 1e-3
    # The other channel and opposite channels are no cure: nobody is heard.
    assert kinds(checked(tmp_path, [{"channel": 1 - side}])) == {"silent"}


SILENT: dict[str, Callable[[], np.ndarray]] = {
    "zeros": lambda: np.zeros((16_000, 1)),
    "a mean": lambda: np.full((16_000, 1), 0.3),
    "two means": lambda: np.stack([np.full(16_000, 0.3), np.full(16_000, -0.2)], 1),
    "opposite channels": lambda: np.stack([noise(0, 1.0), -noise(0, 1.0)], 1),
    "opposite channels and a mean": lambda: np.stack([noise(0, 1.0), 0.2 - noise(0, 1.0)], 1),
    "faint noise and a mean": lambda: 0.5 + 0.0005 * noise(0, 1.0)[:, None],
}
HEARD: dict[str, Callable[[], np.ndarray]] = {
    "noise": lambda: noise(0, 1.0)[:, None],
    "noise and a mean": lambda: 0.3 + noise(0, 1.0)[:, None],
    "a click": lambda: np.eye(16_000, 1, -8_000) * 0.5,
    "one channel": lambda: np.stack([noise(0, 1.0), np.full(16_000, 0.2)], 1),
}


@pytest.mark.parametrize("name", [*SILENT, *HEARD])
def test_silence_is_what_the_model_does_not_hear(tmp_path: Path, name: str) -> None:
    samples = (SILENT | HEARD)[name]()
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    data = checked(tmp_path, [{"channel": "mix"} if samples.shape[1] > 1 else {}])
    assert ("silent" in kinds(data)) == (name in SILENT)
    # The reference: numpy on the mean of the channels.
    mono = samples.mean(axis=1)
    assert (np.abs(mono - mono.mean()).max() <= 1e-3) == (name in SILENT)
    # The cures of silence: nobody speaks, or the other channel.
    if name in SILENT:
        row = {"channel": "mix", "text": "", "nonspeech": True}
        assert kinds(checked(tmp_path, [row])) == set()


def test_a_written_again_file_holds_all_its_sound(tmp_path: Path) -> None:
    samples = (noise(0, 2.0) * 32_767).astype("<i2")
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    for size in (0, len(data)):  # from a pipe; the size of the file
        data[at : at + 4] = size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(data)
        (finding,) = (f for f in checked(tmp_path, [{}]).findings if f.kind == "stated-length")
        assert "ffmpeg -i IN OUT.flac" in finding.cure
        ffmpeg(tmp_path / "a.wav", tmp_path / "out.flac")
        cured = checked(tmp_path, [{"audio": "out.flac"}])
        assert kinds(cured) == set()
        assert np.array_equal(soundfile.read(tmp_path / "out.flac", dtype="int16")[0], samples)


def test_converting_keeps_the_channels_and_the_rate(tmp_path: Path) -> None:
    """An `undecodable` file is converted: a call stays a call, and 8 kHz doesn't claim more."""
    assert CONVERT == "convert it: ffmpeg -i IN OUT.flac"
    sides = call(tmp_path)
    encode(tmp_path / "b.mka", np.stack(sides, 1), 16_000, "pcm_s16le")
    ffmpeg(tmp_path / "b.mka", tmp_path / "b.flac")
    assert kinds(checked(tmp_path, [{"audio": "b.flac"}])) == {"channels"}
    soundfile.write(tmp_path / "c.wav", noise(0, 2.0, 8_000), 8_000)
    ffmpeg(tmp_path / "c.wav", tmp_path / "c.flac")
    assert kinds(checked(tmp_path, [{"audio": "c.flac"}])) == set()


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_no_cut_off_file_is_to_be_converted(tmp_path: Path, suffix: str) -> None:
    # The result would pass, with half of the words.
    write_audio(tmp_path / f"a.{suffix}", seconds=4.0)
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) // 2])
    found = checked(tmp_path, [{"audio": f"a.{suffix}"}])
    (finding,) = (f for f in found.findings if f.severity == "error")
    assert finding.kind == "truncated"
    assert "ffmpeg" not in finding.cure
    assert "copy the file again" in finding.cure
    assert "cut its text" in CUT_TEXT


def test_what_an_import_wrote_is_not_narrowband(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0, 3.0, 8_000), 8_000)
    (tmp_path / "a.txt").write_text("some words")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.wav", "a.txt"):
        (tmp_path / name).rename(source / name)
    import_speech(source, tmp_path / "to")
    assert "narrowband" not in kinds(check(tmp_path / "to", SPEECH))


def only_cure(result: Any) -> str:
    (left_out,) = (each for each in result.left_out if each.file != "a.wav")
    return str(left_out.cure)


def test_the_cures_of_imports(tmp_path: Path) -> None:
    source, far = tmp_path / "source", tmp_path / "far"
    source.mkdir()
    far.mkdir()
    sides = call(far)
    table = source / "list.csv"
    table.write_text("path,text\nexport/2024/a.wav,some words\n")
    cure = only_cure(import_speech(table, tmp_path / "to"))
    assert "--audio-dir DIR" in cure
    options: dict[str, Any] = {"audio_dir": str(far)}
    cure = only_cure(import_speech(table, tmp_path / "to", settings=options))
    assert set(re.findall(r"--channel \w+", cure)) >= {"--channel 0", "--channel mix"}
    for channel, wanted in ((0, sides[0]), ("mix", (sides[0] + sides[1]) / 2)):
        result = import_speech(table, tmp_path / "to", settings=options | {"channel": channel})
        assert (result.rows, result.left_out) == (1, ())
        data = check(tmp_path / "to", SPEECH)
        assert kinds(data) == set()
        assert np.abs(read_row(data.rows[0]) - wanted).max() < 1e-3


def test_an_encoding_is_named(tmp_path: Path) -> None:
    from mmtune.errors import DataError

    write_audio(tmp_path / "a.wav", seconds=1.0)
    table = tmp_path / "list.csv"
    table.write_bytes("path;text\na.wav;für Ärzte\n".encode("cp1252"))
    with pytest.raises(DataError, match="--encoding cp1252"):
        import_speech(table, tmp_path / "to")
    result = import_speech(table, tmp_path / "to", settings={"encoding": "cp1252"})
    assert result.rows == 1
    assert [row.reference for row in check(tmp_path / "to", SPEECH).rows] == ["für Ärzte"]
