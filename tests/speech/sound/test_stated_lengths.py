"""A header's length is a claim: the sound is decoded to its end, as FFmpeg does.

The expected samples are those that FFmpeg (PyAV, as installed) decodes of the same file without any
code of ours.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from mmtune.speech.corpus.check_recording import inspect
from mmtune.speech.sound.read import AudioFault, decode, probe
from mmtune.speech.speech_row import SpeechRow
from tests.data.pieces import noise, write_audio
from tests.faults.files import flac_claiming, riff
from tests.speech.encoded import encode, tones

SECONDS = 6.0


class Pipe(io.RawIOBase):
    """Collects what is written, and can't seek: a muxer can't go back to its header."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def piped(path: Path, form: str, codec: str, rate: int, **options: str) -> Path:
    """Encode tones through a pipe."""
    out, step = Pipe(), 1024
    samples = tones(SECONDS, rate)
    with av.open(out, "w", format=form, options=options) as container:
        track = container.add_stream(codec, rate=rate, layout="mono")
        step = track.codec_context.frame_size or step
        fit = av.AudioResampler(format=track.format, layout="mono", rate=rate, frame_size=step)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T), format="fltp", layout="mono"
        )
        frame.rate, frame.pts = rate, 0
        for part in [*fit.resample(frame), *fit.resample(None)]:
            container.mux(track.encode(part))
        container.mux(track.encode(None))
    path.write_bytes(out.data)
    return path


def mp3(path: Path, rate: int = 16_000, channels: int = 1, **options: str) -> Path:
    samples = np.repeat(tones(SECONDS, rate), channels, axis=1)
    return encode(path, samples, rate, "libmp3lame", options=options)


def tagged(path: Path, **options: str) -> Path:
    """An MP3 with a tag of 300 KiB before it, as covers make them."""
    sound = mp3(path, **options).read_bytes()
    size = 300 * 1024
    digits = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x04\x00\x00" + digits + bytes(size) + sound)
    return path


def with_few_frames(path: Path) -> Path:
    """An MP3 whose Xing frame counts a tenth of the frames."""
    data = bytearray(mp3(path).read_bytes())
    place = max(data.find(b"Xing"), data.find(b"Info")) + 8
    count = int.from_bytes(data[place : place + 4], "big")
    data[place : place + 4] = (count // 10).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def short_flac(path: Path) -> Path:
    """A FLAC whose header states a third of its samples."""
    whole = write_audio(path, seconds=SECONDS).read_bytes()
    flac_claiming(path, whole, int(SECONDS * 16_000) // 3)
    return path


def wav(path: Path, claimed: Callable[[int], int], before: bytes = b"", after: bytes = b"") -> Path:
    data = (noise(0, SECONDS) * 32_767).astype("<i2").tobytes()
    whole = riff(data, claimed=claimed(len(data)))
    path.write_bytes(whole[:36] + before + whole[36:] + after)
    return path


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"

MADE: dict[str, Callable[[Path], Path]] = {
    "cbr.mp3": lambda p: mp3(p, write_xing="0"),
    "stereo.mp3": lambda p: mp3(p, 44_100, 2, write_xing="0"),
    "narrow.mp3": lambda p: mp3(p, 8_000, write_xing="0"),
    "vbr.mp3": lambda p: piped(p, "mp3", "libmp3lame", 24_000, **{"q": "7"}),
    "xing.mp3": lambda p: mp3(p, 22_050),
    "tag.mp3": lambda p: tagged(p),
    "tag-no-xing.mp3": lambda p: tagged(p, write_xing="0"),
    "few-frames.mp3": with_few_frames,
    "zero.wav": lambda p: wav(p, lambda n: 0),
    "zero-list.wav": lambda p: wav(p, lambda n: 0, before=LIST),
    "header-too.wav": lambda p: wav(p, lambda n: n + 44),
    "riff-size.wav": lambda p: wav(p, lambda n: n + 36),
    "file-size-list.wav": lambda p: wav(p, lambda n: n + 44 + len(LIST), before=LIST),
    "unknown.wav": lambda p: wav(p, lambda n: 0xFFFFFFFF),
    "pipe.wav": lambda p: piped(p, "wav", "pcm_s16le", 16_000),
    "short.flac": lambda p: short_flac(p),
    "pipe.flac": lambda p: piped(p, "flac", "flac", 16_000),
    "pipe.ogg": lambda p: piped(p, "ogg", "libopus", 48_000),
    "pipe.aac": lambda p: piped(p, "adts", "aac", 22_050),
    "pipe.webm": lambda p: piped(p, "webm", "libopus", 48_000),
    "pipe.mkv": lambda p: piped(p, "matroska", "flac", 16_000),
    "pieces.mp4": lambda p: piped(p, "mp4", "aac", 44_100, movflags="frag_keyframe+empty_moov"),
    "pipe.caf": lambda p: piped(p, "caf", "pcm_s16be", 16_000),
}


LIES = {
    *("few-frames.mp3", "short.flac", "zero.wav", "zero-list.wav", "header-too.wav"),
    *("riff-size.wav", "file-size-list.wav"),
}


@pytest.mark.parametrize("name", MADE)
def test_the_sound_is_decoded_to_its_end(tmp_path: Path, name: str) -> None:
    path = MADE[name](tmp_path / name)
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        wanted = sum(frame.samples for frame in container.decode(track)) / track.rate
    info = probe(path)
    heard = sum(len(block) for block in decode(path, info)) / info.rate
    assert wanted > SECONDS - 0.1
    # Encoders add priming and padding; containers that state them let decoders drop them.
    assert heard == pytest.approx(wanted, abs=0.06)
    found = inspect(SpeechRow(id="r", audio=str(path), text="some words that are said here"))
    assert {f.kind for f in found.findings} <= {"stated-length", "narrowband"}
    assert ("stated-length" in {f.kind for f in found.findings}) == (name in LIES)


def test_an_empty_sound_before_another_chunk_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(riff(b"", claimed=0) + LIST)
    (finding,) = inspect(SpeechRow(id="r", audio=str(path), text="words")).findings
    assert finding.kind == "zero-length"


@pytest.mark.parametrize("missing", [100, 1_000, 40_000])
def test_a_wav_that_lacks_more_than_its_header_is_truncated(tmp_path: Path, missing: int) -> None:
    path = wav(tmp_path / "a.wav", lambda n: n)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(AudioFault, match="promises"):
        probe(path)


def test_a_span_of_a_repaired_wav_is_that_part(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", lambda n: 0)
    info = probe(path)
    part = np.concatenate(list(decode(path, info, 16_000, 32_000)))
    assert part[:, 0] == pytest.approx(noise(0, SECONDS)[16_000:32_000], abs=1e-4)


def test_a_flac_that_states_nothing_is_read(tmp_path: Path) -> None:
    whole = write_audio(tmp_path / "a.flac", seconds=3.0)
    flac_claiming(tmp_path / "b.flac", whole.read_bytes(), 0)
    one, other = (np.concatenate(list(decode(p, probe(p)))) for p in (whole, tmp_path / "b.flac"))
    assert np.array_equal(one, other)
