"""Voice activity detection, and windows for decoding: cut at pauses, without long silences.

Audio without speech is never decoded, so Whisper can't invent words for it. The detector is Silero
VAD, whose weights are in its wheel.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.speech.sound.read import SAMPLE_RATE
from mmtune.speech.whisper.stages import MAX_WINDOW

SampleSpan = tuple[int, int]  # (first, after the last) sample of a recording

# Thresholds of the detector's probability. THRESHOLD and AROUND were chosen on two joined
# recordings of 60 utterances each of speechocean762 (which rows was not recorded), where 0.5 with
# 0.3 s around lost soft ends of words. On 48 other recordings (Common Voice and LibriSpeech, joined
# to 4.9 minutes, 498 words, tiny.en) 9 words are missing, against 17 with 0.5 and 0.3 s; the WER is
# the same (83 against 81 errors). Word times take CLEAR, because an opening line or a breath is not
# yet a word.
THRESHOLD, CLEAR = 0.35, 0.5
SHORTEST = 0.1  # shortest speech in seconds; a "no" takes 0.2 s
PAUSE = 0.3  # seconds of silence that end a stretch of speech
AROUND = 0.4  # seconds kept before and after speech, because the detector misses soft first sounds
KEPT = 1.0  # seconds; a longer silence within a window is removed
SEARCH = 5.0  # seconds before the end of a window in which the quietest place is cut
FRAME = SAMPLE_RATE // 50
SMOOTH = 10  # number of frames (0.2 s) over which loudness is averaged


@dataclass(frozen=True)
class Window:
    """A window for decoding: one or more pieces of a recording, joined.

    Attributes:
        pieces: spans in samples of the recording.
        speech: spans of speech in the pieces.
        clear: spans of speech with high probability; equal to `speech` if there are none.
    """

    pieces: tuple[SampleSpan, ...]
    speech: tuple[SampleSpan, ...]
    clear: tuple[SampleSpan, ...]

    @property
    def start(self) -> float:
        """Start of the window's speech, in seconds of the recording."""
        return self.clear[0][0] / SAMPLE_RATE

    @property
    def end(self) -> float:
        """End of the window's speech, in seconds of the recording."""
        return self.clear[-1][1] / SAMPLE_RATE

    def audio(self, recording: NDArray[np.float32]) -> NDArray[np.float32]:
        """Join the samples of the window's pieces."""
        return np.concatenate([recording[start:end] for start, end in self.pieces])

    def times(self, start: float, end: float) -> tuple[float, float]:
        """Convert a word's times in the window to seconds of the recording.

        They are limited to the stretch of speech that they overlap most, because attention looks
        into the silence before a first word, and no word continues through a pause.
        """
        begins = np.cumsum([0, *(b - a for a, b in self.pieces)]) / SAMPLE_RATE
        last = len(self.pieces) - 1
        at = min(bisect_right(begins, start) - 1, last)
        to = min(max(bisect_left(begins, end) - 1, at), last)
        start += self.pieces[at][0] / SAMPLE_RATE - begins[at]
        end += self.pieces[to][0] / SAMPLE_RATE - begins[to]
        covered = [min(end * SAMPLE_RATE, b) - max(start * SAMPLE_RATE, a) for a, b in self.clear]
        best = int(np.argmax(covered))
        if covered[best] > 0:
            a, b = self.clear[best]
            start, end = max(start, a / SAMPLE_RATE), min(end, b / SAMPLE_RATE)
        return float(start), float(end)


def find_speech(
    audio: NDArray[np.float32], thresholds: Sequence[float] = (THRESHOLD, CLEAR)
) -> list[list[SampleSpan]]:
    """Detect spans of speech, for each threshold of the detector's probability.

    Args:
        audio: [samples], mono, 16 kHz.
        thresholds: from 0 to 1.

    Returns:
        For each threshold the spans in order, without overlap; none for silence, noise and most
        music.
    """
    if len(audio) < FRAME:
        return [[] for _ in thresholds]
    spans, detector = _detector()
    samples = np.ascontiguousarray(audio, np.float32)
    probabilities = detector.audio_forward(samples, sampling_rate=SAMPLE_RATE)
    result: list[list[SampleSpan]] = []
    for threshold in thresholds:
        found = spans(
            probabilities,
            sampling_rate=SAMPLE_RATE,
            threshold=threshold,
            min_speech_duration_ms=SHORTEST * 1000,
            min_silence_duration_ms=PAUSE * 1000,
            speech_pad_ms=30,
            audio_length_samples=len(audio),
        )
        result.append([(int(each["start"]), int(each["end"])) for each in found])
    return result


@cache
def _detector() -> tuple[Any, Any]:
    import torch

    from mmtune.errors import BaseModelError
    from mmtune.system.installed import require_intact

    require_intact("silero-vad", ".onnx", BaseModelError)
    threads = torch.get_num_threads()
    try:
        # Importing silero_vad sets torch to one thread for the whole process.
        from silero_vad import get_speech_timestamps_from_probs, load_silero_vad

        # ONNX Runtime needs one call for 16 s of audio. The TorchScript model needs one for 32 ms
        # and takes ten times longer for the same probabilities.
        return get_speech_timestamps_from_probs, load_silero_vad(onnx=True, sequence=True)
    finally:
        torch.set_num_threads(threads)


def windows(
    audio: NDArray[np.float32],
    longest: float = MAX_WINDOW,
    speech: Sequence[SampleSpan] | None = None,
    clear: Sequence[SampleSpan] = (),
) -> list[Window]:
    """Cut a recording into windows at pauses: as few as its speech fits into.

    Args:
        audio: [samples], mono, 16 kHz.
        longest: longest window in seconds.
        speech: spans of speech; None detects them with `find_speech`.
        clear: spans of speech with high probability.
    """
    if speech is None:
        speech, clear = find_speech(audio)
    most = int(longest * SAMPLE_RATE)
    around, kept = int(AROUND * SAMPLE_RATE), int(KEPT * SAMPLE_RATE)
    result: list[Window] = []
    pieces: list[SampleSpan] = []
    spoken: list[SampleSpan] = []
    for first, last, place in _fitting(audio, speech, most - 2 * around):
        before = place[0] if not spoken else max(place[0], spoken[-1][1])
        start, end = max(before, first - around), min(place[1], last + around)
        joined = bool(pieces) and start - pieces[-1][1] <= kept
        held = sum(b - a for a, b in pieces)
        more = end - pieces[-1][1] if joined else end - start
        if pieces and held + more > most:
            result.append(_window(pieces, spoken, clear))
            pieces, spoken, joined = [], [], False
        if joined:
            pieces[-1] = (pieces[-1][0], end)
        else:
            if pieces:
                start = max(start, pieces[-1][1])
            pieces.append((start, end))
        spoken.append((first, last))
    if pieces:
        result.append(_window(pieces, spoken, clear))
    return result


def _window(
    pieces: Sequence[SampleSpan], speech: Sequence[SampleSpan], clear: Sequence[SampleSpan]
) -> Window:
    first, last = speech[0][0], speech[-1][1]
    within = [(max(a, first), min(b, last)) for a, b in clear if a < last and b > first]
    return Window(tuple(pieces), tuple(speech), tuple(within) or tuple(speech))


def _fitting(
    audio: NDArray[np.float32], speech: Sequence[SampleSpan], most: int
) -> Iterator[tuple[int, int, SampleSpan]]:
    # Yields each stretch in pieces of at most `most` samples, with the limits for the audio around
    # it: halfway to its neighbours, so that no sample is decoded twice.
    cuts = [
        (first + a, first + b, a == 0, b == last - first)
        for first, last in speech
        for a, b in cut(audio[first:last], most / SAMPLE_RATE)
    ]
    for i, (first, last, opens, closes) in enumerate(cuts):
        low = first if not opens else (cuts[i - 1][1] + first) // 2 if i else 0
        after = (last + cuts[i + 1][0]) // 2 if i + 1 < len(cuts) else len(audio)
        yield first, last, (low, after if closes else last)


def cut(audio: NDArray[np.float32], longest: float = MAX_WINDOW) -> list[SampleSpan]:
    """Cut the whole recording into consecutive spans of at most `longest` seconds.

    Each span except the last ends at the quietest place in its last seconds.

    Args:
        audio: [samples], 16 kHz.
        longest: longest span in seconds.

    Returns:
        (start, end) in samples; none for an empty recording.
    """
    most = int(longest * SAMPLE_RATE)
    spans: list[SampleSpan] = []
    start = 0
    while len(audio) - start > most:
        first = start + most - int(min(SEARCH, longest / 2) * SAMPLE_RATE)
        frames: Any = audio[first : start + most]
        frames = frames[: len(frames) // FRAME * FRAME].reshape(-1, FRAME)
        power = np.square(frames, dtype=np.float64).mean(axis=1)
        smooth = np.convolve(power, np.ones(SMOOTH) / SMOOTH, mode="same")
        # The zeros beyond the edges would make the edges look quiet.
        inner = slice(SMOOTH // 2, len(smooth) - SMOOTH // 2)
        end = first + (int(np.argmin(smooth[inner])) + SMOOTH // 2) * FRAME + FRAME // 2
        spans.append((start, end))
        start = end
    if start < len(audio):
        spans.append((start, len(audio)))
    return spans
