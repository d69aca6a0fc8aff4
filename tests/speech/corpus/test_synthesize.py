"""Term lists, voices, channels, and the dataset that comes of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.config import RunConfig
from mmtune.errors import ConfigError, DataError, MissingExtra
from mmtune.speech.corpus import voices as voices_module
from mmtune.speech.corpus.synthesize import (
    Utterance,
    divide,
    make_plan,
    prepare,
    read_lines,
    render,
    synthesize,
    voices_for,
)
from mmtune.speech.corpus.term_list import Term, find_terms, read_terms
from mmtune.speech.corpus.voices import Espeak, Hibari
from mmtune.speech.sound.augment import add_noise, set_level, telephone, trim
from mmtune.speech.sound.read import SAMPLE_RATE, read_audio
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, plain_words
from mmtune.system.files import PARTIAL
from mmtune.system.resources import resource
from tests.speech.real import ESPEAK, HIBARI, needs

espeak = needs(ESPEAK)
hibari = needs(HIBARI)

TERMS = (
    Term("metoprolol", "metoprolol"),
    Term("NSTEMI", "en stemmy"),
    Term("apixaban", "apixaban", seen=False),
)


# Term lists


def write(folder: Path, text: str) -> Path:
    path = folder / "terms.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path, "﻿# drugs\nmetoprolol\n\n NSTEMI = en stemmy \n[unseen]\natrial flutter\n"
    )
    assert read_terms(path) == (
        Term("metoprolol", "metoprolol", True),
        Term("NSTEMI", "en stemmy", True),
        Term("atrial flutter", "atrial flutter", False),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no term"),
        ("# nothing\n", "no term"),
        ("[unseen]\nmetoprolol\n", "no term to train"),
        ("metoprolol\nMetoprolol,\n", "line 2.*repeats the term of line 1"),
        ("colour\ncolor\n", "line 2.*repeats the term of line 1"),  # scored as one word
        ("metoprolol =\n", "line 1"),
        ("a\n...\n", "line 2"),
        ("a\n" + "b" * 101, "line 2"),
        ("a\n[seen]\n", "line 2"),
        ("a\nb\x07c\n", "line 2"),
    ],
)
def test_a_bad_list_names_its_line(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        read_terms(write(tmp_path, text))


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes(b"\xff\xfem\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_terms(path)
    with pytest.raises(ConfigError, match="no such term list"):
        find_terms(tmp_path / "nothing.txt")
    with pytest.raises(ConfigError, match="no such term list"):
        find_terms(Path("medicine"))


words = st.text("abcdefghij ", min_size=1, max_size=12).map(str.strip).filter(bool)


@settings(max_examples=50, deadline=None)
@given(st.lists(words, min_size=1, max_size=8, unique_by=plain_words), st.integers(0, 8))
def test_lists_survive_writing(
    tmp_path_factory: pytest.TempPathFactory, written: list[str], seen: int
) -> None:
    wanted = [f"x{word}" for word in written]  # never a number, which would be another's equal
    seen = max(1, min(seen, len(wanted)))
    lines = [*wanted[:seen], "[unseen]", *wanted[seen:]]
    terms = read_terms(write(tmp_path_factory.mktemp("list"), "\n".join(lines)))
    assert [term.text for term in terms] == wanted
    assert [term.seen for term in terms] == [i < seen for i in range(len(wanted))]


def test_the_demos_list() -> None:
    terms = read_terms(find_terms(Path("medical")))
    assert len(terms) >= 40
    assert sum(not term.seen for term in terms) * 3 >= len(terms)


# Channels


@pytest.fixture
def tone() -> np.ndarray:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)


def test_noise_has_the_ratio_asked_for(tone: np.ndarray) -> None:
    noisy = add_noise(tone, 12.0, np.random.default_rng(0))
    added = noisy - tone
    snr = 10 * np.log10(np.mean(tone.astype(float) ** 2) / np.mean(added.astype(float) ** 2))
    assert snr == pytest.approx(12.0, abs=0.05)
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    assert spectrum[50:100].sum() > 5 * spectrum[5000:5050].sum()  # pink
    assert np.array_equal(noisy, add_noise(tone, 12.0, np.random.default_rng(0)))


def test_telephone_keeps_its_band_only(tone: np.ndarray) -> None:
    heard = telephone(tone)
    assert heard.shape == tone.shape
    assert heard.dtype == np.float32
    assert np.corrcoef(heard[800:-800], tone[800:-800])[0, 1] > 0.99
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for outside in (80, 5000):
        blocked = telephone((0.3 * np.sin(2 * np.pi * outside * t)).astype(np.float32))
        assert np.sqrt(np.mean(blocked**2)) < 0.02


def test_the_lines_codec_is_g711(tone: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audioop = pytest.importorskip("audioop")  # left Python in 3.13
    import io

    import soundfile

    pcm = (tone[:2000] * 32767).astype("<i2")
    file = io.BytesIO()
    soundfile.write(file, pcm, 8000, format="WAV", subtype="ULAW")
    file.seek(0)
    ours, _ = soundfile.read(file, dtype="int16")
    theirs = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2), "<i2")
    levels = np.frombuffer(audioop.ulaw2lin(bytes(range(256)), 2), "<i2")
    assert np.isin(ours, levels).all()
    # The two choose different neighbours for a value halfway between two levels.
    assert np.abs(np.searchsorted(np.unique(levels), ours)
                  - np.searchsorted(np.unique(levels), theirs)).max() <= 1  # fmt: skip


def test_level(tone: np.ndarray) -> None:
    assert np.sqrt(np.mean(set_level(tone, -30.0) ** 2)) == pytest.approx(
        10 ** (-30 / 20), rel=1e-3
    )
    assert np.abs(set_level(tone, 20.0)).max() == pytest.approx(0.99, abs=1e-3)
    assert not set_level(np.zeros(5, np.float32), -20.0).any()


def test_silence_at_both_ends_is_cut(tone: np.ndarray) -> None:
    padded = np.pad(tone, (4000, 7777))
    kept = trim(padded)
    assert abs(len(kept) - len(tone)) <= 2 * SAMPLE_RATE // 100
    assert np.abs(kept).max() == np.abs(tone).max()
    assert len(trim(np.zeros(100, np.float32))) == 0


# Voices


@espeak
def test_espeak_repeats_itself_whatever_it_said_before() -> None:
    voice = Espeak("en-gb-x-rp+f5", 150, 40)
    first, rate = voice("metoprolol")
    Espeak("en-us+m3")("something else")
    time.sleep(1.1)  # eSpeak draws breath from the second of the day
    again, _ = voice("metoprolol")
    assert np.array_equal(first, again)
    assert rate == 22_050
    assert 0.3 < len(first) / rate < 3
    other, _ = Espeak("en-us", 150, 40)("metoprolol")
    assert len(other) != len(first) or not np.array_equal(other, first)


@espeak
@pytest.mark.parametrize("voice", ["en-nowhere", "en-us+nobody"])
def test_an_unknown_espeak_voice_is_an_error(voice: str) -> None:
    # eSpeak itself goes on with the voice before, or without the variant.
    with pytest.raises(ConfigError, match=voice.replace("+", r"\+")):
        Espeak(voice)("hello")


@espeak
def test_espeak_says_when_it_says_nothing() -> None:
    with pytest.raises(DataError, match="gives no sound"):
        Espeak("en-us")("")


@espeak
def test_espeak_behind_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("a" * 90) / ("b" * 90) / "espeak-ng-data"
    long.parent.mkdir(parents=True)
    long.symlink_to(voices_module._data_path(), target_is_directory=True)
    expected, _ = Espeak("en-us")("hello")
    monkeypatch.setattr(voices_module, "_data_path", lambda: long)
    voices_module._short_data_path.cache_clear()
    try:
        heard, _ = Espeak("en-us")("hello")
    finally:
        voices_module._short_data_path.cache_clear()
    assert np.array_equal(heard, expected)


@espeak
def test_every_default_voice_speaks() -> None:
    sounds = set()
    for voices in voices_for("en").values():
        for voice in voices:
            if isinstance(voice, Espeak):
                sounds.add(hashlib.sha256(voice("seven")[0].tobytes()).hexdigest())
    assert len(sounds) == sum(isinstance(v, Espeak) for vs in voices_for("en").values() for v in vs)


@hibari
def test_hibari_repeats_itself() -> None:
    first, rate = Hibari()("hello there")
    assert rate == 24_000
    assert np.array_equal(first, Hibari()("hello there")[0])
    assert len(Hibari(1.5)("hello there")[0]) < len(first)


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices_module, "installed", lambda module: False)
    for cached in (voices_module._library, voices_module._hibari):
        cached.cache_clear()
    with pytest.raises(MissingExtra, match=r"mmtune\[espeak\]"):
        Espeak("en-us")("hello")
    with pytest.raises(MissingExtra, match=r"mmtune\[demo\]"):
        Hibari()("hello")


def test_importing_synthesis_imports_no_synthesizer_and_no_torch() -> None:
    code = (
        "import sys, mmtune.speech.corpus.synthesize; "
        "print([m for m in ('torch', 'hibari', 'espeakng_loader', 'librosa') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The plan


def plan(options: SpeechOptions = SpeechOptions(), terms: tuple[Term, ...] = TERMS):  # noqa: B008
    return list(make_plan(terms, options))


def test_splits_share_no_sentence_no_voice_and_no_word() -> None:
    voices, sentences, ordinary = defaultdict(set), defaultdict(set), defaultdict(set)
    names = {term.text for term in TERMS}
    for u in plan():
        voices[u.voice.name].add(u.split)
        term = u.term.text if u.term else None
        if term is None:
            assert not any(name in u.text for name in names)
            ordinary[u.text].add(u.split)
        else:
            assert term in u.text
            sentences[u.text.replace(term, "{term}")].add(u.split)
    for group in (voices, sentences, ordinary):
        assert group
        assert all(len(splits) == 1 for splits in group.values())


def test_unseen_terms_are_only_tested() -> None:
    splits = defaultdict(set)
    for u in plan():
        if u.term:
            splits[u.term.text].add(u.split)
    assert splits["apixaban"] == {"test"}
    assert splits["metoprolol"] == {"train", "validation", "test"}


def test_each_term_is_said_by_every_training_voice() -> None:
    said = [u for u in plan() if u.split == "train" and u.term == TERMS[0]]
    assert len(said) == 12
    assert {u.voice.name for u in said} == {v.name for v in voices_for("en")["train"]}
    assert len({u.text for u in said}) == 12


def test_what_is_written_is_not_what_is_spoken() -> None:
    u = next(u for u in plan() if u.term == TERMS[1])
    assert "NSTEMI" in u.text
    assert "en stemmy" in u.spoken


def test_no_row_is_planned_twice() -> None:
    terms = [Term(f"zelomab{i}", f"zelo mab {i}") for i in range(400)]
    keys = [each.key for each in make_plan(terms, SpeechOptions(terms=Path("x")))]
    assert len(keys) > 400 * 12
    assert len(keys) == len(set(keys))


def test_a_new_term_changes_no_other_row() -> None:
    before = {u.key for u in plan(terms=TERMS[:1]) if u.term}
    after = {u.key for u in plan() if u.term == TERMS[0]}
    assert before == after


def test_a_control_has_the_same_sentences_voices_and_lines_without_terms() -> None:
    def frame(u: Utterance) -> tuple[str, str, str]:
        return u.split, u.voice.name, u.channel

    ours = [u for u in plan() if u.split != "test" and u.term]
    control = plan(SpeechOptions(ordinary=True))
    assert not any(u.split == "test" for u in control)
    # What stands in a term's place is trained as terms are, or the control would learn less.
    assert {u.term in TERMS for u in control if u.term} == {False}
    assert [frame(u) for u in ours] == [frame(u) for u in control][: len(ours)] or len(
        {frame(u) for u in ours} - {frame(u) for u in control}
    ) <= 1  # a sentence that came twice was dropped
    assert not any(term.text in u.text for term in TERMS for u in control)


def test_lines_are_divided_once_and_for_all() -> None:
    lines = [f"sentence {i}" for i in range(40)]
    parts = divide(lines)
    assert {name: len(part) for name, part in parts.items()} == {
        "test": 10, "validation": 5, "train": 25,
    }  # fmt: skip
    assert sorted(sum(parts.values(), ())) == sorted(lines)
    assert divide(list(reversed(lines))) == parts


def test_sentences_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "carriers.txt"
    path.write_text("\n".join(f"Zin {i} over {{term}}." for i in range(9)), encoding="utf-8")
    made = plan(SpeechOptions(language="nl", carriers=path))
    assert all("Zin" in u.text and u.voice.name.startswith("espeak nl") for u in made)
    path.write_text("too few {term}", encoding="utf-8")
    with pytest.raises(ConfigError, match="1 sentences"):
        plan(SpeechOptions(carriers=path))
    path.write_text("\n".join(f"no slot {i}" for i in range(9)), encoding="utf-8")
    with pytest.raises(ConfigError, match="no slot 0"):
        plan(SpeechOptions(carriers=path))
    with pytest.raises(ConfigError, match="language 'nl'"):
        plan(SpeechOptions(language="nl"))


# The dataset


def config(folder: Path, **task: object) -> RunConfig:
    return RunConfig(
        recipe="terminology", modality="speech", name="run", base="none", out=folder,
        task=SpeechOptions(**task),  # type: ignore[arg-type]
    )  # fmt: skip


def audio_hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "audio").iterdir())
        if not path.name.startswith(PARTIAL)
    }


@espeak
def test_a_term_list_alone_makes_a_dataset_and_resumes(tmp_path: Path) -> None:
    terms = write(tmp_path, "metoprolol\nNSTEMI = en stemmy\n[unseen]\napixaban\n")
    manifest = prepare(config(tmp_path / "one", terms=terms, utterances=1))
    rows = [SpeechRow.model_validate_json(line) for line in manifest.open(encoding="utf-8")]
    assert len({row.id for row in rows}) == len(rows)
    assert {row.split for row in rows} == {"train", "validation", "test"}
    for row in rows[::4]:
        samples = read_audio(manifest.parent / row.audio)
        assert 0.8 < len(samples) / SAMPLE_RATE < 4.5
        assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.3
    hashes, written = audio_hashes(manifest.parent), manifest.read_bytes()
    # Interrupted: some audio is missing, and a half-written one is left.
    lost = sorted((manifest.parent / "audio").iterdir())[:3]
    for path in lost:
        path.unlink()
    lost[0].with_name(f"{PARTIAL}1.flac").write_bytes(b"fLaC")
    manifest.unlink()
    again = prepare(config(tmp_path / "one", terms=terms, utterances=1))
    assert again.read_bytes() == written
    assert audio_hashes(again.parent) == hashes


@espeak
def test_without_the_other_synthesizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtune.speech.corpus.synthesize.installed", lambda module: False)
    made = plan(SpeechOptions(utterances=1), TERMS[:1])
    assert {u.voice.name.split()[0] for u in made if u.split == "test"} == {"espeak"}
    manifest = synthesize(made, tmp_path, "en")
    assert len(manifest.read_text(encoding="utf-8").splitlines()) == len(made)


@espeak
def test_rendering_repeats_itself() -> None:
    for channel in ("clean", "noise", "telephone"):
        u = Utterance("train", "Hello.", "Hello.", None, Espeak("en-us"), channel)  # type: ignore[arg-type]
        assert np.array_equal(render(u), render(u))


def test_given_recordings_come_first_and_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data"):
        prepare(config(tmp_path))
    given = config(tmp_path, terms=tmp_path / "none.txt")
    data = given.data.model_copy(update={"path": tmp_path / "calls"})
    assert prepare(given.model_copy(update={"data": data})) == tmp_path / "calls"


def test_assets_have_what_the_defaults_need() -> None:
    assert resource("assets", "carriers/en.txt").is_file()
    assert resource("assets", "carriers/ordinary.en.txt").is_file()


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_terms_are_spoken_in_sentences_of_their_language(tmp_path: Path, language: str) -> None:
    (tmp_path / "terms.txt").write_text("Acme\nZorbon\n")
    terms = read_terms(tmp_path / "terms.txt", language)
    made = plan(SpeechOptions(language=language, utterances=2), terms)
    lines = read_lines(resource("assets", f"carriers/{language}.txt"))
    assert len(lines) >= 30
    possible = {line.replace("{term}", term) for line in lines for term in ("Acme", "Zorbon")}
    assert {each.text for each in made if "Acme" in each.text or "Zorbon" in each.text} <= possible


@pytest.mark.parametrize("field", ["medical", "legal", "broadcast"])
def test_own_term_lists_have_seen_and_unseen_terms(field: str) -> None:
    terms = read_terms(find_terms(Path(field)))
    unseen = sum(not term.seen for term in terms)
    assert 0.2 < unseen / len(terms) < 0.4
    assert len({term.text.casefold() for term in terms}) == len(terms)


@pytest.mark.parametrize("field", ["legal", "broadcast"])
def test_fields_have_sentences_of_their_own(field: str) -> None:
    options = SpeechOptions(carriers=Path(field), utterances=1)
    made = [each for each in plan(options, read_terms(find_terms(Path(field)))) if each.term]
    lines = read_lines(resource("assets", f"carriers/{field}.en.txt"))
    starts = {line.split("{term}")[0] for line in lines}
    assert all(any(each.text.startswith(start) for start in starts) for each in made)
