"""Write sound files whole: they are encoded in memory, where a full disk can't cut them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import soundfile
from numpy.typing import NDArray

from mmtune.speech.sound.info import SAMPLE_RATE
from mmtune.system.files import write_bytes


def save_sound(
    path: Path, samples: NDArray[Any], rate: int = SAMPLE_RATE, *, private: bool = False
) -> None:
    """Write 16-bit samples as FLAC or WAV, by the path's suffix.

    libsndfile itself gives "System error" for all that can go wrong with a disk.

    Args:
        path: the file; its folder exists.
        samples: [samples] in [-1, 1].
        rate: samples per second.
        private: whether only the owner may read the file.

    Raises:
        OSError: the file can't be written.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=path.suffix[1:], subtype="PCM_16")
    write_bytes(path, buffer.getvalue(), private=private)
