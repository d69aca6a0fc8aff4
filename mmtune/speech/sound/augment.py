"""Change speech as recordings do: speed, rooms, noise, loudness and telephone lines.

Most functions take [samples] float32 at 16 kHz in [-1, 1] and return the same. Randomness comes
from the generator or seed that is given.

Training views (`view`, `mask_mel`) use torchaudio. Synthesis and the robustness test have effects
of their own (`add_noise`, `babble`), because their recordings must stay the same bit by bit.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft  # type: ignore[import-untyped]
from scipy.signal import butter, sosfiltfilt  # type: ignore[import-untyped]

from mmtune.speech.sound.read import SAMPLE_RATE

if TYPE_CHECKING:
    from torch import Tensor

Samples = NDArray[np.float32]

VIEW_VERSION = 2  # of `view` and `mask_mel`; raised when the same seed gives something else
SPEEDS = (0.9, 1.0, 1.1)  # Ko et al. 2015, "Audio Augmentation for Speech Recognition"
ROOM_SHARE, NOISE_SHARE, TELEPHONE_SHARE = 0.3, 0.5, 0.25  # share of views with this effect
RT60 = (0.15, 0.6)  # seconds in which the sound of a room falls by 60 dB
REVERB_DB = (-12.0, 0.0)  # level of the echo, relative to the direct sound
VIEW_SNR_DB = (5.0, 25.0)  # signal-to-noise ratio of views with noise
GAIN_DB = (-12.0, 6.0)  # change of loudness of views
TIME_MASKS, TIME_MASK = 2, 40  # number of time masks; length of the longest, in frames of 10 ms
TIME_SHARE = 0.15  # largest share of a clip that one time mask covers
FREQUENCY_MASKS, FREQUENCY_MASK = 2, 15  # number of frequency masks; width limit in mel bins
QUIET_PERCENTILE = 10  # percentile of a clip's frames that counts as its silence

VOICES = 6  # voices of a babble; a listener could follow fewer
VOICE_SPEED = (0.85, 1.15)  # speeds of the voices of a babble

TELEPHONE_RATE = 8_000  # Hz
TELEPHONE_BAND = (300.0, 3_400.0)  # Hz, ITU-T G.712


def set_level(samples: Samples, rms_db: float) -> Samples:
    """Scale to an RMS level in dB below full scale, or to the loudest level without clipping."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    peak = float(np.abs(samples).max(initial=0.0))
    if rms == 0.0 or peak == 0.0:
        return samples
    gain = min(10 ** (rms_db / 20) / rms, 0.99 / peak)
    return (samples * gain).astype(np.float32)


def sounding(samples: Samples, below_db: float = 45.0) -> tuple[int, int]:
    """Return (first, after the last) sample of the clip without the silence at its ends.

    Args:
        samples: the clip.
        below_db: frames of 10 ms count as silence if they are this far below the loudest one.
    """
    frame = SAMPLE_RATE // 100
    frames = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-below_db / 10))
    if not len(loud):
        return 0, 0
    return int(loud[0]) * frame, min(int(loud[-1] + 1) * frame, len(samples))


def trim(samples: Samples, below_db: float = 45.0) -> Samples:
    """Remove the silence at both ends; see `sounding`."""
    start, end = sounding(samples, below_db)
    return samples[start:end]


def pink(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw [count] samples of pink noise (power falls with 1/f), of arbitrary level."""
    length = next_fast_len(count, real=True)  # a prime length takes ten times as long
    spectrum = rfft(rng.standard_normal(length))
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise: NDArray[np.float64] = irfft(spectrum, length)[:count]
    return noise


def add_noise(samples: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Add pink noise, whose power falls with 1/f like the noise of rooms and streets.

    Args:
        samples: speech.
        snr_db: power of the whole clip over the power of the noise, in dB.
        rng: draws the noise.
    """
    noise = pink(len(samples), rng)
    noisy: Samples = np.clip(at_snr(samples, noise, snr_db), -1.0, 1.0).astype(np.float32)
    return noisy


def at_snr(samples: Samples, noise: NDArray[np.float64], snr_db: float) -> NDArray[np.float64]:
    """Add noise [samples] of any level at a signal-to-noise ratio; may exceed full scale."""
    power = np.mean(np.square(samples, dtype=np.float64))
    gain = np.sqrt(power / 10 ** (snr_db / 10) / max(float(np.mean(noise**2)), 1e-20))
    mixed: NDArray[np.float64] = samples + noise * gain
    return mixed


def babble(samples: Samples, rng: np.random.Generator) -> NDArray[np.float64]:
    """Make [samples] of voices without words, of arbitrary level, from the clip itself.

    The voices are copies of the clip: reversed, at other speeds, shifted in time. So they have the
    speaker's spectrum and the rhythm of speech, and depend on nothing but the clip. Reversed
    speech masks by its energy and not by its words (Rhebergen, Versfeld and Dreschler, J. Acoust.
    Soc. Am. 118, 2005).
    """
    total = np.zeros(len(samples))
    for _ in range(VOICES):
        speed = float(rng.uniform(*VOICE_SPEED))
        voice = soxr.resample(samples[::-1].copy(), SAMPLE_RATE * speed, SAMPLE_RATE)
        repeated = np.resize(voice, len(samples)).astype(np.float64)
        total += np.roll(repeated, int(rng.integers(max(1, len(samples)))))
    return total


def overdrive(samples: Samples, share: float) -> Samples:
    """Clip the loudest `share` of a clip's sounding samples, as a recording that is too loud."""
    start, end = sounding(samples)
    if start == end:
        return samples
    limit = float(np.quantile(np.abs(samples[start:end]), 1 - share))
    cut: Samples = np.clip(samples / max(limit, 1e-9), -1.0, 1.0).astype(np.float32)
    return cut


def telephone(samples: Samples) -> Samples:
    """Simulate a telephone line: 8 kHz, 300 to 3,400 Hz, G.711 mu-law (libsndfile's codec)."""
    narrow = soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE)
    band = butter(4, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
    # The filter runs forwards and backwards, so that it doesn't shift the speech in time.
    filtered = np.clip(sosfiltfilt(band, narrow, padlen=min(60, len(narrow) - 1)), -1.0, 1.0)
    line = io.BytesIO()
    soundfile.write(line, filtered, TELEPHONE_RATE, format="WAV", subtype="ULAW")
    line.seek(0)
    heard, _ = soundfile.read(line, dtype="float32")
    wide: Samples = soxr.resample(heard, TELEPHONE_RATE, SAMPLE_RATE)
    return np.clip(wide[: len(samples)], -1.0, 1.0)


def speeds_for(seconds: float, longest: float) -> tuple[float, ...]:
    """Return the speeds at which a clip of that length stays within `longest` seconds."""
    return tuple(speed for speed in SPEEDS if speed >= 1 or seconds / speed <= longest)


def draw_speed(speeds: tuple[float, ...], seed: int) -> float:
    """Draw one of `speeds` by the seed."""
    return speeds[int(np.random.default_rng([seed, 1]).integers(len(speeds)))]


def change_speed(samples: Samples, speed: float) -> Samples:
    """Play faster or slower; pitch and formants move along, so it sounds like another speaker.

    Args:
        samples: the clip.
        speed: one of `SPEEDS`: torchaudio's resampler is slow for ratios of large numbers.
    """
    if speed == 1.0 or not len(samples):
        return samples
    import torch
    from torchaudio.functional import speed as faster

    changed, _ = faster(torch.from_numpy(samples), SAMPLE_RATE, speed)
    result: Samples = changed.numpy()
    return result


def add_room(samples: Samples, rng: np.random.Generator) -> Samples:
    """Add the echo of a room: noise that decays exponentially (Polack's model).

    Returns:
        As many samples: the end of the echo is cut.
    """
    import torch
    from torchaudio.functional import fftconvolve

    decay, level = rng.uniform(*RT60), rng.uniform(*REVERB_DB)
    time = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    response *= 10 ** (level / 20) / max(float(np.sqrt(np.sum(response**2))), 1e-9)
    response[0] = 1.0
    # torchaudio transforms as many samples as both have together: a prime number is slow.
    length = next_fast_len(len(samples) + len(response) - 1, real=True) - len(samples) + 1
    padded = np.zeros(length, np.float32)
    padded[: len(response)] = response
    echoed = fftconvolve(torch.from_numpy(samples), torch.from_numpy(padded)).numpy()
    result: Samples = np.clip(echoed[: len(samples)], -1.0, 1.0)
    return result


def add_background(samples: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Add pink noise at a signal-to-noise ratio in dB: for training views."""
    import torch
    from torchaudio.functional import add_noise as mix

    if not samples.any():  # silence has no such ratio
        return samples
    noise = torch.from_numpy(pink(len(samples), rng).astype(np.float32))
    noisy: Samples = mix(torch.from_numpy(samples), noise, torch.tensor(snr_db)).numpy()
    return np.clip(noisy, -1.0, 1.0)


def view(samples: Samples, speed: float, seed: int) -> Samples:
    """Make a version of a clip with another speed, room, noise, line or loudness.

    Args:
        samples: the clip.
        speed: from `draw_speed`; it decides the length.
        seed: decides everything else.
    """
    rng = np.random.default_rng([seed, 2])
    result = change_speed(samples, speed)
    if not len(result):
        return result
    if rng.random() < ROOM_SHARE:
        result = add_room(result, rng)
    if rng.random() < NOISE_SHARE:
        result = add_background(result, rng.uniform(*VIEW_SNR_DB), rng)
    if rng.random() < TELEPHONE_SHARE:
        result = telephone(result)
    gain = 10 ** (rng.uniform(*GAIN_DB) / 20)
    heard: Samples = np.clip(result * gain, -1.0, 1.0).astype(np.float32)
    return heard


def mask_mel(mel: Tensor, frames: int, seed: int) -> Tensor:
    """Mask parts of a spectrogram (SpecAugment, Park et al. 2019, arXiv 1904.08779; no warping).

    transformers applies its own inside `WhisperModel`, and not where encoder states are given.

    Args:
        mel: [bins, frames], log-mel.
        frames: how many of the first are the clip's; the rest is padding.
        seed: decides the masks.

    Returns:
        A copy in which the masked parts hold the clip's mean.
    """
    import torch
    from torchaudio.functional import mask_along_axis

    masked = mel.clone()
    frames = min(frames, mel.shape[1])
    if not frames:
        return masked
    clip = mel[:, :frames]
    fill = float(clip.mean())
    # torchaudio draws from torch's global generator, whose state must stay that of the training.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for _ in range(TIME_MASKS):
            clip = mask_along_axis(clip, TIME_MASK, fill, axis=1, p=TIME_SHARE)
        for _ in range(FREQUENCY_MASKS):
            clip = mask_along_axis(clip, FREQUENCY_MASK, fill, axis=0)
    masked[:, :frames] = clip
    return masked


def silence(count: int, rng: np.random.Generator) -> Samples:
    """Draw [count] samples without speech: digital silence, hiss, room noise or mains hum."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros(count, np.float32)
    level = 10 ** (rng.uniform(-70.0, -25.0) / 20)
    if kind == 1:
        noise = rng.standard_normal(count)
    elif kind == 2:
        noise = pink(count, rng)
    else:
        time = np.arange(count) / SAMPLE_RATE
        mains = rng.choice([50.0, 60.0])
        tones = [np.sin(2 * np.pi * mains * n * time + rng.uniform(0, 6)) / n for n in (1, 2, 3, 5)]
        noise = np.sum(tones, axis=0) + 0.1 * rng.standard_normal(count)
    noise = noise * level / max(float(np.sqrt(np.mean(noise**2))), 1e-9)
    return np.clip(noise, -1.0, 1.0).astype(np.float32)


def room_tone(samples: Samples, count: int, rng: np.random.Generator) -> Samples:
    """Draw [count] samples of noise as loud as the quiet frames of a clip, to fill a pause."""
    frame = SAMPLE_RATE // 50
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    if not len(frames) or not count:
        return np.zeros(count, np.float32)
    floor = np.percentile(np.square(frames, dtype=np.float64).mean(axis=1), QUIET_PERCENTILE)
    noise = pink(count, rng)
    noise *= np.sqrt(floor / max(float(np.mean(noise**2)), 1e-20))
    return np.clip(noise, -1.0, 1.0).astype(np.float32)
