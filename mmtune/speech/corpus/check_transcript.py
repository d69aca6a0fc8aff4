"""Check transcripts: speech rate, number of tokens, and spellings of terms."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mmtune.data.rows import Finding
from mmtune.metrics.text.normalize import INVISIBLE
from mmtune.metrics.text.term_finder import TermFinder, term_key, text_words
from mmtune.speech.corpus.speaker_labels import named_roles
from mmtune.speech.speech_row import SpeechRow, plain_words

ROOM = 448  # tokens that Whisper's decoder reads (openai/whisper, n_text_ctx)
PREFIX = 2  # tokens before the text, at least: start of transcript, no timestamps
PROMPT = 223  # tokens of a prompt that Whisper keeps
# The pre-tokenizer of GPT-2 and Whisper: no token spans two of these matches. The name of a special
# token ("<|en|>") is one token wherever it stands.
SPECIAL = r"<\|[^|>]*\|>"
PRETOKEN = re.compile(
    rf"{SPECIAL}|'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:(?!{SPECIAL})(?:[^\s\w]|_))+|\s+"
)
# Letters per second. Conversation has about 15, an auctioneer 30.
FAST, IMPOSSIBLE = 40.0, 80.0
SPARE_LETTERS = 10.0  # letters allowed beyond the rate, because recordings are cut tightly
SLOW = 1.0  # fewest letters per second, after subtracting `PAUSES`
PAUSES = 4.0  # seconds that may pass without a word
# In these scripts one character is a syllable or a word (CJK, kana, Hangul).
DENSE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
DENSITY = 3.0  # number of letters that such a character counts for
# <COMMA>, <sil>, [NOISE]: what corpora write in angle brackets, or in capitals in square ones
TAG = re.compile(r"<(?!\|)/?[A-Za-z][\w .-]{0,20}>|\[[A-Z][A-Z_ -]{1,20}\]")
INVISIBLE_SHOWN = 3  # names of invisible characters that a finding lists
# [noise], (laughs), 【拍手】, ♪ la ♪ and *beep*, alone or several; a tune may have no end: ♪ la
CLOSED = r"\[[^\]]*\]|\([^)]*\)|<[^>]*>|【[^】]*】|（[^）]*）|［[^］]*］|[♪♫][^♪♫]*[♪♫]|\*[^*]*\*"
SOUND = re.compile(rf"(?=.)(?:(?:{CLOSED})[\s.,;!?…–—-]*)*(?:[♪♫][^♪♫]*)?", re.DOTALL)
# Least similarity of a misspelt term; the second is for rows that name the term.
NEAR, OWN = 0.78, 0.65
SHORTEST = 5  # letters; shorter terms resemble too many other words


def check_text(row: SpeechRow, seconds: float) -> Iterator[Finding]:
    """Check one transcript against the length of its recording in seconds."""
    yield from _ratio(row, seconds)
    yield from _tokens(row)
    yield from _unspoken(row)
    if describes_sound(row.text):
        yield Finding(
            "sound-text",
            row.id,
            f"the transcript {row.text[:60]!r} describes a sound",
            'if nobody speaks, set an empty text and "nonspeech": true',
            "warning",
        )


def describes_sound(text: str) -> bool:
    """Whether a text describes sounds and holds no words: "[music] (laughs)"."""
    return SOUND.fullmatch(text.strip()) is not None


def check_terms(rows: Sequence[SpeechRow], terms: Iterable[str] = ()) -> list[Finding]:
    """Warn about transcripts that spell a term differently from the term list.

    Args:
        rows: all rows; each may have `terms` of its own.
        terms: terms of a list, for all rows.

    Returns:
        One finding for each spelling that resembles a term of the list, and one for each row that
        names a term that its transcript lacks.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    listed = {term_key(term): term for term in terms}
    named = {term_key(term, row.language): term for row in rows for term in row.terms}
    known = {word: term for word, term in {**named, **listed}.items() if word}
    if not known:
        return []
    findings = []
    told: set[tuple[str, str]] = set()
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    sizes = {len(word.split()) for word in known}
    # "met formin" is a misspelling of "metformin": allow one word more or less.
    wanted = sorted({n for size in sizes for n in (size - 1, size, size + 1) if n > 0})
    for row in rows:
        words = [word.text for word in text_words(row.text, row.language)]
        for phrase in _phrases(words, wanted):
            counts[phrase] += 1
            first.setdefault(phrase, row.id)
        for term in row.terms:
            word = term_key(term, row.language)
            if not word or TermFinder([term], row.language).find(row.text):
                continue
            near = process.extractOne(
                word,
                list(_phrases(words, wanted)),
                scorer=Levenshtein.normalized_similarity,
                processor=_joined,
                score_cutoff=OWN,
            )
            if near is not None:
                told.add((word, near[0]))
            written = repr(near[0]) if near else "nothing similar"
            findings.append(
                Finding(
                    "term-missing",
                    row.id,
                    f"the row names the term {term!r}, but its transcript has {written}: "
                    f"{row.text[:60]!r}",
                    "correct the transcript or the row's terms",
                    "warning",
                )
            )
    phrases = [phrase for phrase in counts if phrase not in known]
    for word, term in known.items():
        if len(_joined(word)) < SHORTEST:
            continue
        found = process.extract(
            word,
            phrases,
            scorer=Levenshtein.normalized_similarity,
            processor=_joined,
            score_cutoff=NEAR,
            limit=20,
        )
        taken: list[str] = []  # the best first: "and met formin" repeats "met formin"
        for phrase, _, _ in found:
            again = any(_holds(phrase, other) for other in [word, *taken])
            if again or (word, phrase) in told or _inflected(word, phrase):
                continue
            taken.append(phrase)
            findings.append(
                Finding(
                    "term-spelling",
                    first[phrase],
                    f"{phrase!r} occurs {_times(counts[phrase])}; the list has {term!r}"
                    + (f" (occurs {_times(counts[word])})" if counts[word] else ""),
                    "if it is the same word, spell it as the list does; "
                    "if it is another word, ignore this",
                    "warning",
                )
            )
    return findings


def fewest_tokens(text: str) -> int:
    """Return a lower bound on the number of tokens of `text`, for every tokenizer of Whisper."""
    return sum(1 for _ in PRETOKEN.finditer(f" {text.strip()}")) if text.strip() else 0


def _tokens(row: SpeechRow) -> Iterator[Finding]:
    least, most = fewest_tokens(row.text) + PREFIX, len(f" {row.text.strip()}".encode()) + PREFIX
    prompt = 0
    if row.prompt and row.prompt.strip():
        prompt = 1 + min(PROMPT, fewest_tokens(row.prompt))
    if least > ROOM:
        yield Finding(
            "too-many-tokens",
            row.id,
            f"its text has at least {least} tokens; Whisper reads at most {ROOM}",
            "cut the recording into shorter utterances",
        )
    elif max(least, most / 3) + prompt > ROOM:  # most tokens have three to four letters
        words = "its text and prompt have" if prompt else "its text has"
        yield Finding(
            "many-tokens",
            row.id,
            f"{words} between {least + prompt} and {most + prompt} tokens, depending on the "
            f"tokenizer; Whisper reads at most {ROOM}",
            "cut the recording into shorter utterances, or shorten its prompt",
            "warning",
        )


def _unspoken(row: SpeechRow) -> Iterator[Finding]:
    tags = list(dict.fromkeys(TAG.findall(row.text)))
    if tags and not describes_sound(row.text):
        yield Finding(
            "tags",
            row.id,
            f"the transcript has {', '.join(tags[:5])}: the model would learn to write it",
            "replace tags of punctuation (<COMMA>) by the sign, and remove the others",
            "warning",
        )
    roles = named_roles(row.text)
    if len(roles) > 1:
        yield Finding(
            "speaker-names",
            row.id,
            f"the transcript holds the words of {' and '.join(roles[:4])}: in one channel nothing "
            "tells two voices apart, and the model would learn to write the names",
            "if the recording has a channel for each, divide it: mmtune import … --speakers "
            "agent=0,customer=1; else remove the names, and record a channel for each",
            "warning",
        )
    elif roles:
        yield Finding(
            "speaker-names",
            row.id,
            f"the transcript begins with the speaker's name {roles[0]!r}: the model would learn to "
            "write it",
            "write the name into the row's speaker, or import the data: mmtune import",
            "warning",
        )
    unseen = list(dict.fromkeys(INVISIBLE.findall(row.text)))
    if unseen:
        names = [unicodedata.name(c, f"U+{ord(c):04X}") for c in unseen[:INVISIBLE_SHOWN]]
        yield Finding(
            "invisible",
            row.id,
            f"the transcript has characters that nobody sees: {', '.join(names).lower()}",
            "remove them; scoring ignores them, but the model would learn them",
            "warning",
        )


def _ratio(row: SpeechRow, seconds: float) -> Iterator[Finding]:
    said = plain_words(row.text).replace(" ", "")
    letters = len(said) + (DENSITY - 1) * len(DENSE.findall(said))
    if not said or seconds <= 0:
        return
    rate = f"{len(said)} letters in {seconds:.2f} s: {row.text[:60]!r}"
    if letters > SPARE_LETTERS + FAST * seconds:
        yield Finding(
            "text-ratio",
            row.id,
            f"the text is too long for its recording: {rate}",
            "check whether the recording is cut off, or the transcript belongs to another one",
            "error" if letters > 2 * SPARE_LETTERS + IMPOSSIBLE * seconds else "warning",
        )
    elif letters < SLOW * (seconds - PAUSES):
        yield Finding(
            "text-ratio",
            row.id,
            f"the text is very short for its recording: {rate}",
            "transcribe all speech, or cut the recording to its words",
            "warning",
        )


def _phrases(words: Sequence[str], sizes: Sequence[int]) -> Iterator[str]:
    for size in sizes:
        for i in range(len(words) - size + 1):
            yield " ".join(words[i : i + size])


def _joined(phrase: str) -> str:
    return phrase.replace(" ", "")


def _inflected(word: str, phrase: str) -> bool:
    # Plurals and genitives are forms of the same term.
    short, long = sorted((word, phrase), key=len)
    return long.startswith(short) and long[len(short) :].strip() in ("s", "es", "n", "en", "e")


def _holds(phrase: str, word: str) -> bool:
    return f" {word} " in f" {phrase} " or f" {phrase} " in f" {word} "


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
