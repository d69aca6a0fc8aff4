"""What happens to speech on its way to a recording: rooms' and lines' noise, and the telephone.

All functions take [samples] float32 at 16 kHz in [-1, 1] and return the same. Randomness comes
from the generator that is given.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft  # type: ignore[import-untyped]
from scipy.signal import butter, sosfiltfilt  # type: ignore[import-untyped]

from mmtune.speech.audio import SAMPLE_RATE

Samples = NDArray[np.float32]

TELEPHONE_RATE = 8_000  # Hz
TELEPHONE_BAND = (300.0, 3_400.0)  # Hz, ITU-T G.712


def set_level(samples: Samples, rms_db: float) -> Samples:
    """Scale to an RMS in dB below full scale, or as loud as fits without clipping."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    peak = float(np.abs(samples).max(initial=0.0))
    if rms == 0.0 or peak == 0.0:
        return samples
    gain = min(10 ** (rms_db / 20) / rms, 0.99 / peak)
    return (samples * gain).astype(np.float32)


def trim(samples: Samples, below_db: float = 45.0) -> Samples:
    """Without the silence at both ends: 10 ms frames that far below the loudest one."""
    frame = SAMPLE_RATE // 100
    frames = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-below_db / 10))
    return samples[loud[0] * frame : (loud[-1] + 1) * frame] if len(loud) else samples[:0]


def add_noise(samples: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Add pink noise, whose power falls with 1/f as that of rooms and streets does.

    Args:
        samples: speech.
        snr_db: power of the whole clip over power of the noise, in dB.
        rng: draws the noise.
    """
    count = len(samples)
    length = next_fast_len(count, real=True)  # a prime length takes ten times as long
    spectrum = rfft(rng.standard_normal(length))
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise: NDArray[np.float64] = irfft(spectrum, length)[:count]
    power = np.mean(np.square(samples, dtype=np.float64))
    noise *= np.sqrt(power / 10 ** (snr_db / 10) / max(float(np.mean(noise**2)), 1e-20))
    return np.clip(samples + noise, -1.0, 1.0).astype(np.float32)


def telephone(samples: Samples) -> Samples:
    """A telephone line: 8 kHz, 300 to 3,400 Hz, G.711 mu-law (libsndfile's codec)."""
    narrow = soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE)
    band = butter(4, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
    # The filter runs forwards and backwards, so that speech isn't shifted against its noise.
    filtered = np.clip(sosfiltfilt(band, narrow, padlen=min(60, len(narrow) - 1)), -1.0, 1.0)
    line = io.BytesIO()
    soundfile.write(line, filtered, TELEPHONE_RATE, format="WAV", subtype="ULAW")
    line.seek(0)
    heard, _ = soundfile.read(line, dtype="float32")
    wide: Samples = soxr.resample(heard, TELEPHONE_RATE, SAMPLE_RATE)
    return np.clip(wide[: len(samples)], -1.0, 1.0)
