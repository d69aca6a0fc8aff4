"""What `check` needs of the two modalities, without their models; and small good files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from mmtune.image import ImageModality
from mmtune.image.corpus import check_picture as image_check
from mmtune.image.corpus import folders
from mmtune.image.image_row import ImageRow
from mmtune.speech import SpeechModality
from mmtune.speech.corpus import check_recording as speech_check
from mmtune.speech.speech_row import SpeechRow


@dataclass(frozen=True)
class Pieces:
    name: str
    row: Any
    scan: Callable[..., Any]
    inspect: Callable[..., Any]
    check_rows: Callable[..., Any]
    judge_rules: Callable[..., Any]


_SPEECH, _IMAGE = SpeechModality(), ImageModality()
SPEECH: Any = Pieces(
    "speech",
    SpeechRow,
    speech_check.scan,
    speech_check.inspect,
    _SPEECH.check_rows,
    _SPEECH.judge_rules,
)
IMAGE: Any = Pieces(
    "image",
    ImageRow,
    folders.scan,
    image_check.inspect,
    _IMAGE.check_rows,
    _IMAGE.judge_rules,
)


def noise(seed: int, seconds: float = 0.3, rate: int = 16_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * rate))).astype(np.float32)


def write_audio(path: Path, seed: int = 0, seconds: float = 0.3, **kwargs: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seed, seconds), 16_000, **kwargs)
    return path


def picture(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def write_image(path: Path, seed: int = 0, **kwargs: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **kwargs)
    return path
