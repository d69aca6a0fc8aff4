"""Make a dataset of synthetic speech from a term list: sentences, voices and channels.

Every choice follows from a hash of the term or word itself. So a new term changes no other row,
and an interrupted run continues where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

from mmtune.config import RunConfig
from mmtune.data.manifest import write_manifest
from mmtune.data.rows import Split
from mmtune.errors import ConfigError
from mmtune.speech.corpus.line_list import read_entries
from mmtune.speech.corpus.term_list import Term, find_terms, read_terms
from mmtune.speech.corpus.voices import Espeak, Hibari, Voice, installed
from mmtune.speech.sound.augment import add_noise, set_level, telephone, trim
from mmtune.speech.sound.encode import save_sound
from mmtune.speech.sound.read import SAMPLE_RATE
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, plain_words
from mmtune.system.hashing import hash_text
from mmtune.system.resources import resource

SYNTHESIS_VERSION = 2  # raised when the same plan gives other sound
SLOT = "{term}"
TEST_SENTENCES = 2  # test sentences per term; two synthesizers take turns
ORDINARY_SHARE = 6  # number of terms per everyday word that takes a term's place
EVERYDAY_SHARE = 3  # in training, number of sentences with a term per everyday sentence
LEVEL_DB = -23.0  # RMS level relative to full scale
SNR_DB = (8.0, 25.0)
PAUSE = (0.05, 0.3)  # seconds of silence before and after the speech

Choice = TypeVar("Choice")
Channel = Literal["clean", "noise", "telephone"]
CHANNELS: tuple[Channel, ...] = ("clean", "clean", "noise", "telephone")

# No pair of accent and variant, no rate and no pitch is in two splits. Two accents are only in the
# test.
ENGLISH: Mapping[Split, tuple[Voice, ...]] = {
    "train": (
        Espeak("en-us", 165, 50),
        Espeak("en-us+f2", 150, 55),
        Espeak("en-us+m3", 180, 42),
        Espeak("en-us+Annie", 160, 50),
        Espeak("en-us-nyc+m4", 170, 48),
        Espeak("en-us-nyc+f4", 158, 52),
        Espeak("en-gb-x-rp+m1", 155, 45),
        Espeak("en-gb-x-rp+f1", 172, 58),
        Espeak("en-gb-scotland+m2", 162, 50),
        Espeak("en-gb-scotland+f3", 152, 60),
        Espeak("en-gb-x-gbclan+Andy", 168, 46),
        Espeak("en-gb-x-gbclan+Alicia", 156, 54),
    ),
    "validation": (Espeak("en-us+m6", 167, 56), Espeak("en-gb-x-rp+f5", 161, 48)),
    "test": (Espeak("en-029+m7", 159, 49), Espeak("en-gb-x-gbcwmd+linda", 164, 53)),
}
VARIANTS: Mapping[Split, tuple[str, ...]] = {
    "train": ("", "+f2", "+m3", "+Annie", "+m4", "+f4", "+m1", "+f1", "+Andy", "+Alicia"),
    "validation": ("+m6", "+f5"),
    "test": ("+m7", "+linda"),
}
# Languages whose code in Whisper differs from eSpeak's.
ESPEAK_CODES = {"zh": "cmn", "no": "nb", "jw": "jv"}


@dataclass(frozen=True)
class Utterance:
    """A planned row: everything that its sound depends on."""

    split: Split
    text: str
    spoken: str
    term: Term | None
    voice: Voice
    channel: Channel

    @property
    def key(self) -> str:
        """The name of its audio file: a hash of voice, spoken text and channel."""
        return hash_text(f"{SYNTHESIS_VERSION}|{self.voice.name}|{self.spoken}|{self.channel}")[:20]


def prepare(config: RunConfig) -> Path:
    """Return the manifest to train on: the user's data, or synthetic speech of the term list.

    Raises:
        ConfigError: neither data nor terms are given, or the list can't be used.
        MissingExtra: speech must be synthesized and eSpeak NG is not installed.
    """
    if config.data.path is not None:
        return config.data.path
    options = config.task
    if not isinstance(options, SpeechOptions) or options.terms is None:
        raise ConfigError(
            "no data to train on",
            "give recordings (--data FOLDER) or a list of terms (--terms terms.txt; "
            "--terms medical is the demo's list)",
        )
    terms = read_terms(find_terms(options.terms), options.language)
    plan = list(make_plan(terms, options))
    return synthesize(plan, config.folder / "data", options.language)


def make_plan(
    terms: Sequence[Term], options: SpeechOptions, test_sentences: int = TEST_SENTENCES
) -> Iterator[Utterance]:
    """Plan what to say. Sentences, voices and everyday words of the three splits are disjoint.

    Args:
        terms: the list.
        options: how many training sentences a term gets, and in which language.
        test_sentences: test sentences per term.

    Raises:
        ConfigError: there are no sentences for this language, or too few.
    """
    carriers, ordinary = divide(_sentences(options)), divide(_ordinary(options))
    everyday = read_lines(path) if (path := _own("everyday", options.language)) else []
    voices = voices_for(options.language)
    sizes: dict[Split, int] = {
        "train": options.utterances,
        "validation": 1,
        "test": 0 if options.ordinary else test_sentences,
    }
    heard: set[str] = set()
    for split, size in sizes.items():
        spoken = [term for term in terms if term.seen or split == "test"]
        extra = len(spoken) * size // ORDINARY_SHARE if ordinary[split] else 0
        slots: list[tuple[Term | None, str, int]] = [
            *((None if options.ordinary else term, term.text, i)
              for term in spoken for i in range(size)),
            *((None, "", i) for i in range(extra)),
        ]  # fmt: skip
        for term, seed, i in slots:
            fixed, turn = _rng(split, seed), _rng(split, seed, str(i))
            sentence = _turn(fixed, carriers[split], i)
            voice = _turn(fixed, voices[split], i)
            channel = turn.choice(CHANNELS)
            # In a control run, an everyday word takes the term's place in sentence and voice.
            word = term or _everyday_word(turn.choice(ordinary[split]))
            utterance = Utterance(
                split=split,
                text=sentence.replace(SLOT, word.text),
                spoken=sentence.replace(SLOT, word.spoken),
                term=word if options.ordinary and seed else term,
                voice=voice,
                channel=channel,
            )
            if utterance.key not in heard:
                heard.add(utterance.key)
                yield utterance
    count = sum(term.seen for term in terms) * options.utterances // EVERYDAY_SHARE
    for i in range(count if everyday else 0):
        line, rng = everyday[i % len(everyday)], _rng("everyday", str(i))
        voice = _turn(_rng("everyday"), voices["train"], i + i // len(everyday))
        utterance = Utterance("train", line, line, None, voice, rng.choice(CHANNELS))
        if utterance.key not in heard:
            heard.add(utterance.key)
            yield utterance


def synthesize(plan: Sequence[Utterance], folder: Path, language: str) -> Path:
    """Synthesize the utterances whose audio is missing, and write the manifest.

    Returns:
        `folder`/manifest.jsonl; the audio (16 kHz FLAC) is in the same folder.
    """
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rows: list[SpeechRow] = []
    for utterance in plan:
        relative = Path("audio") / f"{utterance.key}.flac"
        path = folder / relative
        if not path.exists():
            save_sound(path, render(utterance))
        kind = "none" if utterance.term is None else "seen" if utterance.term.seen else "unseen"
        rows.append(
            SpeechRow(
                id=utterance.key,
                audio=relative.as_posix(),
                text=utterance.text,
                speaker=utterance.voice.name,
                language=language,
                terms=() if utterance.term is None else (utterance.term.text,),
                split=utterance.split,
                group={
                    "terms": kind,
                    "synthesizer": utterance.voice.name.split()[0],
                    "channel": utterance.channel,
                },
            )
        )
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, rows)
    return manifest


def render(utterance: Utterance) -> NDArray[np.float32]:
    """Synthesize one row: [samples] float32 at 16 kHz, the same at every call."""
    rng = np.random.default_rng(int(hash_text(utterance.key)[:16], 16))
    samples, rate = utterance.voice(utterance.spoken)
    samples = soxr.resample(samples, rate, SAMPLE_RATE)
    speech = set_level(trim(samples), LEVEL_DB)
    before, after = (int(seconds * SAMPLE_RATE) for seconds in rng.uniform(*PAUSE, size=2))
    padded = np.pad(speech, (before, after))
    if utterance.channel == "clean":
        return padded
    noisy = add_noise(padded, rng.uniform(*SNR_DB), rng)
    return telephone(noisy) if utterance.channel == "telephone" else noisy


def voices_for(language: str) -> Mapping[Split, tuple[Voice, ...]]:
    """Return the voices of the three splits; no voice is in two of them.

    The English test voices include those of a second synthesizer if it is installed.
    """
    if language == "en":
        if not installed("hibari"):
            return ENGLISH
        first, second = ENGLISH["test"]
        return {**ENGLISH, "test": (first, Hibari(0.95), second, Hibari(1.1))}
    code = ESPEAK_CODES.get(language, language)
    return {
        split: tuple(Espeak(code + variant, 150 + 5 * i) for i, variant in enumerate(variants))
        for split, variants in VARIANTS.items()
    }


def divide(lines: Sequence[str]) -> Mapping[Split, tuple[str, ...]]:
    """Divide lines by hash: a quarter for the test, an eighth for validation, the rest to train."""
    ranked = sorted(lines, key=hash_text)
    test = -(-len(ranked) // 4)
    validation = test - (-len(ranked) // 8)
    return {
        "test": tuple(ranked[:test]),
        "validation": tuple(ranked[test:validation]),
        "train": tuple(ranked[validation:]),
    }


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file without comments, empty lines and repetitions.

    Raises:
        ConfigError: the file can't be read as UTF-8 text.
    """
    lines = read_entries(path, "name a UTF-8 text file")
    return list({plain_words(line): line for line in lines}.values())


def _sentences(options: SpeechOptions) -> list[str]:
    path = options.carriers
    if path is None:
        own = {p.stem: p for p in resource("assets", "carriers").glob("*.txt")}
        if options.language not in own:
            raise ConfigError(
                f"mmtune has no sentences in language {options.language!r} to speak the terms in",
                "write a file of sentences, one per line, each with {term}: --carriers FILE",
            )
        path = own[options.language]
    elif not path.is_file():
        path = _own(str(path), options.language) or path  # "legal" comes with mmtune
    lines = read_lines(path)
    wrong = [line for line in lines if line.count(SLOT) != 1]
    if wrong or len(lines) < 8:
        found = f"the line {wrong[0]!r}" if wrong else f"{len(lines)} sentences"
        raise ConfigError(
            f"{path}: {found}; each line needs {SLOT} once, and the file at least 8 lines",
            "write at least 8 different sentences",
        )
    return lines


def _ordinary(options: SpeechOptions) -> list[str]:
    path = _own("ordinary", options.language)
    if path is None and options.ordinary:
        raise ConfigError(
            f"mmtune has no everyday words in language {options.language!r} for a control run",
            "train without task.ordinary",
        )
    return read_lines(path) if path else []


def _own(kind: str, language: str) -> Path | None:
    path = resource("assets", "carriers") / f"{kind}.{language}.txt"
    return path if path.exists() else None


def _everyday_word(word: str) -> Term:
    return Term(word, word)


def _rng(*parts: str) -> random.Random:
    return random.Random(hash_text("|".join(parts)))


def _turn(rng: random.Random, choices: Sequence[Choice], i: int) -> Choice:
    # Every choice comes once before any is repeated; neighbours in the list follow each other.
    return choices[(rng.randrange(len(choices)) + i) % len(choices)]
