"""Read the cells of a table as programs write them: words, times, channels and terms."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import soundfile

from mmtune.speech.corpus.importers.piece import stated
from mmtune.speech.sound.read import Channel
from mmtune.speech.speech_row import channel_of

# 12.5 and 1e-05 (pandas), 1:02.5, 0:01:02,5
TIME = re.compile(
    r"(?:\d+:(?:[0-5]?\d:)?[0-5]?\d(?:[.,]\d*)?|(?:\d+[.,]?\d*|[.,]\d+)(?:e[-+]?\d+)?)"
)
MAX_RATE = 768_000  # samples in a second
LONGEST = 1e7  # seconds: some months
KINDS = {bool: "true or false", float: "an infinite number", dict: "an object"}


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN (a missing value of pandas) or spaces."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def words(value: Any, column: str) -> str | None:
    """Return a cell as text; None if it is empty.

    Args:
        value: the cell.
        column: its column, for the message.

    Raises:
        ValueError: it holds a list, an object, true or false, or an infinite number.
    """
    if is_empty(value):
        return None
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not (real or isinstance(value, str)) or value in (math.inf, -math.inf):
        kind = KINDS.get(type(value), f"a {type(value).__name__}")
        raise ValueError(f"{column!r} holds {kind}, not text: {str(value)[:60]}")
    return str(value)


def seconds(value: Any) -> float | None:
    """Read a time, such as 12.5, "12,5", "0:12.5" or "1:02:12", in seconds.

    Returns:
        None if the cell is empty or says that nothing is known.

    Raises:
        ValueError: it is no time.
    """
    word = None if is_empty(value) else stated(value)
    if word is None:
        return None
    total = 0.0
    if isinstance(value, bool) or not TIME.fullmatch(word.casefold()):
        raise ValueError(f"{word!r} is not a time")
    for part in word.replace(",", ".").split(":"):
        total = total * 60 + float(part)
    if total >= LONGEST:
        raise ValueError(f"{word!r} is not a time")
    return total


def channel(value: Any) -> Channel | None:
    """Read the channel that a row names: 1, "1", "1.0" or "mix".

    Returns:
        None if the cell is empty, or describes the recording by a word ("telephone").

    Raises:
        ValueError: it is another number.
    """
    found = None if is_empty(value) or stated(value) is None else channel_of(value)
    if found == "mix":
        return "mix"
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    if isinstance(found, bool | int | float) or re.fullmatch(r"[-+]?[\d.,]+", str(found).strip()):
        raise ValueError(f"{str(value).strip()!r} is no channel")
    return None


def terms(value: Any) -> tuple[str, ...]:
    """Read terms: a list, or one text with semicolons between them.

    Raises:
        ValueError: it holds neither.
    """
    if isinstance(value, list | tuple):
        return tuple(str(each).strip() for each in value if not is_empty(each))
    parts = (words(value, "terms") or "").split(";")
    return tuple(part.strip() for part in parts if part.strip())


def decoded_sound(array: Any, rate: Any) -> bytes:
    """Write a cell's samples, as `datasets` decodes audio, as a WAV file of 64-bit floats.

    Args:
        array: real samples of one channel, as a list.
        rate: samples in a second.

    Raises:
        ValueError: they aren't, or there is no rate.
    """
    if isinstance(rate, bool) or not isinstance(rate, int) or not 0 < rate <= MAX_RATE:
        raise ValueError(f"its sampling_rate is {rate!r}, which is no number of samples per second")
    try:
        samples = np.asarray(array)
    except ValueError:
        samples = np.asarray(None)
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise ValueError("its array isn't a list of floating-point samples of one channel")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="DOUBLE")
    return file.getvalue()
