"""Header facts of an audio file, the limits that they must keep, and the error for bad files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mmtune.errors import DataError
from mmtune.system.pointers import pointer_at

SAMPLE_RATE = 16_000  # Hz, what Whisper hears
# Hz; fewer or more are a damaged header's. The lowest rate in use for speech is 4,000.
MIN_RATE, MAX_RATE = 1_000, 192_000
MAX_CHANNELS = 8
# Without -ac 1, which would mix the two sides of a call.
CONVERT = "convert it: ffmpeg -i IN OUT.flac"
COPY_AGAIN = "copy the file again from its source"
# Converting a file that was cut off would hide that some of its words are missing.
CUT_TEXT = f"{COPY_AGAIN}; if its end is lost, cut its text to the words that are left"


class AudioFault(DataError):
    """A file that can't be used as audio. `kind` is the short name that findings carry."""

    def __init__(self, kind: str, found: str, cure: str) -> None:
        self.kind = kind
        super().__init__(found, cure)


@dataclass(frozen=True)
class AudioInfo:
    """Header of an audio file: frames per channel, sample rate in Hz, number of channels.

    `demuxer` is FFmpeg's name of the container, set if libsndfile can't read the file. `frames` is
    then counted from packets, and the codec's priming and padding make it inexact. `note` says what
    is wrong with a header whose length isn't that of the data; all of the data is read.
    """

    frames: int
    rate: int
    channels: int
    demuxer: str = ""
    note: str = ""

    @property
    def seconds(self) -> float:
        """The length that the header claims, in seconds."""
        return self.frames / self.rate


def first_bytes(file: BinaryIO, count: int) -> bytes:
    """Read the first bytes of an open file's content, behind any ID3 tags (id3.org, 2.4)."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(max(count, 10))
        if head[:3] != b"ID3" or len(head) < 10:
            return head[:count]
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size


def require_size(path: Path, info: AudioInfo) -> AudioInfo:
    """Return `info` if its rate and channels are those of a possible recording.

    Raises:
        AudioFault: the rate is too low or too high, or there are too many channels. Such files can
            be small and need much memory.
    """
    claimed = f"{info.frames} frames of {info.channels} channels at {info.rate} Hz"
    if info.rate > MAX_RATE or info.channels > MAX_CHANNELS:
        raise AudioFault(
            "size-bomb",
            f"{path} claims {claimed}",
            f"remove it: no recording needs more than {MAX_CHANNELS} channels at {MAX_RATE} Hz",
        )
    if info.rate < MIN_RATE or info.channels < 1:
        raise AudioFault("undecodable", f"{path} claims {claimed}", "copy it again, or remove it")
    return info


def require_file(path: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        AudioFault: the file is missing, empty, a pointer of Git LFS, or not a regular file (a pipe
            would block forever).
    """
    try:
        if not path.is_file():
            kind = "not-a-file" if path.exists() else "missing"
            found = f"{path} is not a file" if kind == "not-a-file" else f"no such file: {path}"
            raise AudioFault(kind, found, "correct the path, or remove the row")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise AudioFault("missing", f"{path}: {error}", "correct the path") from None
    if not size:
        raise AudioFault("empty", f"{path} has 0 bytes", COPY_AGAIN)
    if (pointer := pointer_at(path)) is not None:
        raise AudioFault("lfs-pointer", f"{path} {pointer.found}", pointer.cure)
    return size


def not_finite(path: Path, seconds: float) -> AudioFault:
    """Make the error for a file with NaN or Inf samples; `seconds` is where the first one is."""
    return AudioFault(
        "not-finite",
        f"{path} holds NaN or Inf samples, the first at {seconds:.2f} s",
        "export it again from its source",
    )
