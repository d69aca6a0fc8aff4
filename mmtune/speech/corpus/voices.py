"""Synthetic voices with one interface: text in, samples and their rate out.

eSpeak NG (GPL-3.0, the extra `espeak`) speaks over a hundred languages and many accents.
hibari-tts (Apache-2.0, the extra `demo`) is a neural voice, so an adapter trained on one voice can
be tested on another. Both packages are imported only when they speak.
"""

from __future__ import annotations

import _ctypes
import atexit
import ctypes
import importlib
import importlib.util
import shutil
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmtune.errors import ConfigError, DataError, MissingExtra

Speech = tuple[NDArray[np.float32], int]


class Voice(Protocol):
    """A synthetic voice. The same text must always give the same samples."""

    @property
    def name(self) -> str:
        """The speaker's name in the manifest."""
        ...

    def __call__(self, text: str) -> Speech:
        """Speak `text`: samples [n] float32 in [-1, 1], and their rate in Hz."""
        ...


# espeak-ng, src/include/espeak-ng/speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH = 1, 3
_OK = 0
_SILENT = 0.01
# eSpeak builds paths in buffers of 160 bytes (N_PATH_HOME) and refuses longer ones.
_LONGEST_PATH = 120
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Espeak:
    """A voice of eSpeak NG.

    Args:
        voice: accent and variant as eSpeak calls them: "en-us", "en-gb-scotland+f3".
        rate: words per minute.
        pitch: 0 to 99; 50 is the voice's normal pitch.
    """

    voice: str
    rate: int = 165
    pitch: int = 50

    @property
    def name(self) -> str:
        """Voice, rate and pitch, as the manifest names the speaker."""
        return f"espeak {self.voice} {self.rate} {self.pitch}"

    def __call__(self, text: str) -> Speech:
        """Speak a text.

        Raises:
            MissingExtra: the extra `espeak` is not installed.
            ConfigError: eSpeak has no such voice or variant.
            DataError: eSpeak gives no sound for this text.
        """
        # eSpeak keeps the state of its sound generator between utterances, even after
        # espeak_Terminate. Only a freshly loaded library gives the same samples again (0.7 ms).
        with _LOCK:
            library = ctypes.CDLL(str(_library()))
            try:
                return self._speak(library, text)
            finally:
                library.espeak_Terminate()
                _unload(library)

    def _speak(self, library: ctypes.CDLL, text: str) -> Speech:
        blocks: list[NDArray[np.int16]] = []

        def take(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        callback = _CALLBACK(take)  # keep a reference while the library speaks
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, _short_data_path().encode(), _DONT_EXIT)
        if rate <= 0:
            raise ConfigError(
                f"eSpeak NG can't read its data in {_data_path()}",
                "pip install --force-reinstall espeakng-loader",
            )
        # The seed of breath noise; without it eSpeak takes the time of day.
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        library.espeak_SetSynthCallback(callback)
        self._choose(library)
        for parameter, value in ((_RATE, self.rate), (_PITCH, self.pitch)):
            if library.espeak_SetParameter(parameter, value, 0) != _OK:
                raise ConfigError(f"eSpeak NG refuses {self.name}", "use a rate of 80 to 450")
        data = text.encode() + b"\0"
        code = library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        samples = np.concatenate([np.zeros(1, np.int16), *blocks]).astype(np.float32) / 32768.0
        if code != _OK or np.abs(samples).max() < _SILENT:
            raise DataError(
                f"{self.name} gives no sound for {text!r} (code {code})",
                "write the term in letters, or write how it sounds: TERM = sounds like",
            )
        return samples, int(rate)

    def _choose(self, library: ctypes.CDLL) -> None:
        # eSpeak reports an unknown voice by its return code alone and keeps the previous voice. It
        # ignores an unknown variant without any report.
        variant = self.voice.partition("+")[2]
        known = not variant or (_data_path() / "voices" / "!v" / variant).is_file()
        if not known or library.espeak_SetVoiceByName(self.voice.encode()) != _OK:
            raise ConfigError(
                f"eSpeak NG has no voice {self.voice!r}",
                "set task.language to a language that eSpeak speaks, or use recordings: --data",
            )


@dataclass(frozen=True)
class Hibari:
    """The voice in the wheel of hibari-tts: American English, female.

    Args:
        speed: 1 is the voice's normal speed.
    """

    speed: float = 1.0

    @property
    def name(self) -> str:
        """Voice and speed, as the manifest names the speaker."""
        return f"hibari heart {self.speed:g}"

    def __call__(self, text: str) -> Speech:
        """Speak a text.

        Raises:
            MissingExtra: hibari-tts is not installed.
        """
        samples = _hibari()(text, speed=self.speed, seed=0)
        return np.asarray(samples, dtype=np.float32), int(_hibari().sample_rate)


def installed(module: str) -> bool:
    """Whether an optional package is installed; doesn't import it."""
    return importlib.util.find_spec(module) is not None


@cache
def _hibari() -> Any:
    if not installed("hibari"):
        raise MissingExtra("hibari-tts", "demo", "this synthetic voice")
    return importlib.import_module("hibari").Hibari()


def _loader() -> Any:
    if not installed("espeakng_loader"):
        raise MissingExtra("espeakng-loader", "espeak", "speech synthesis from a term list")
    return importlib.import_module("espeakng_loader")


@cache
def _library() -> Path:
    return Path(_loader().get_library_path())


@cache
def _data_path() -> Path:
    return Path(_loader().get_data_path())


@cache
def _short_data_path() -> str:
    path = _data_path()
    if len(str(path).encode()) <= _LONGEST_PATH:
        return str(path)
    folder = Path(tempfile.mkdtemp(prefix="mm"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    short = folder / path.name
    try:
        short.symlink_to(path, target_is_directory=True)
    except OSError:  # Windows allows links only to administrators
        shutil.copytree(path, short)
    return str(short)


def _unload(library: ctypes.CDLL) -> None:
    # ctypes has no public function to unload a library.
    unload = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]
    unload(library._handle)
