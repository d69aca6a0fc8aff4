"""Import recordings with one transcript each, in the .txt of the same name, without times.

With `align`, a model finds when each word was said. It transcribes the recording with word times,
its words are aligned with the given transcript, and the recording is cut at pauses. The text is
always the given one. Stretches are left out if the model heard too few of their words, or heard
words that the transcript lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.manifest import scan_files
from mmtune.errors import DataError
from mmtune.speech.corpus.check_recording import MAX_SECONDS, SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.piece import Found, ImportOptions, LeftOut, Piece, Used, filled
from mmtune.speech.sound.read import SAMPLE_RATE, AudioFault, probe, read_audio
from mmtune.speech.speech_row import plain_words
from mmtune.system.inside import leads_out

if TYPE_CHECKING:
    from mmtune.speech.whisper.word_times import Word

MAX_BYTES = 2_000_000  # size of one transcript: some days of speech
UNHEARD = 4  # this many consecutive words that the model didn't hear form their own stretch
UNWRITTEN = 3  # this many consecutive words that the transcript lacks force a cut
HEARD = 0.6  # least share of a piece's words that the model heard as they are written
TARGET = 15.0  # seconds after which the next pause ends a piece
PAUSE = 0.2  # seconds between two words that count as a pause
MARGIN = 0.15  # seconds kept before and after a piece's words, as far as the pauses allow
LONGEST_SPAN = 4 * 3600.0


@dataclass(frozen=True)
class Placed:
    """A word of the transcript, with its time if the model heard it as it is written.

    `unwritten` counts the words that the model heard before it and the transcript lacks.
    """

    text: str
    start: float | None = None
    end: float | None = None
    unwritten: int = 0


@dataclass(frozen=True)
class Stretch:
    """Consecutive words of the transcript between two times in seconds."""

    start: float
    end: float
    text: str
    heard: float  # share of its words that the model heard


def import_transcripts(source: Path, options: ImportOptions) -> Found:
    """Read each recording of a folder with the .txt of its name."""
    listener: Any = None
    for _, relative in scan_files(source, SPEECH_SUFFIXES):
        file = source / relative
        recording = relative.as_posix()
        text = _text(file.with_suffix(".txt"))
        if isinstance(text, LeftOut):
            yield replace(text, file=str(file))
            continue
        yield Used(file.with_suffix(".txt"))
        try:
            seconds = probe(file).seconds
        except AudioFault as fault:
            yield LeftOut(recording, fault.found, fault.cure)
            continue
        row = filled(language=options.language)
        if seconds <= MAX_SECONDS or not options.align:
            yield Piece(file, recording, text, recording, row=row)
            continue
        if listener is None:
            listener = _listener(options)
        try:
            audio = read_audio(file, channel=options.channel, max_seconds=LONGEST_SPAN)
        except AudioFault as fault:
            cure = "add --channel 0, 1 or mix" if fault.kind == "channels" else fault.cure
            yield LeftOut(recording, fault.found, cure)
            continue
        heard = listener(audio)
        yield from _cut(file, recording, text, heard, len(audio) / SAMPLE_RATE, row)


def place(given: Sequence[str], heard: Sequence[Word]) -> list[Placed]:
    """Align the transcript's words with the heard ones; words that match get their times.

    Words are compared without case and punctuation. rapidfuzz's Levenshtein opcodes align them.
    """
    from rapidfuzz.distance import Levenshtein

    ours = [plain_words(word) for word in given]
    theirs = [plain_words(word.text) for word in heard]
    placed = [Placed(word) for word in given]
    for step in Levenshtein.opcodes(ours, theirs):
        if step.tag == "equal":
            for i, j in zip(
                range(step.src_start, step.src_end),
                range(step.dest_start, step.dest_end),
                strict=True,
            ):
                if ours[i]:
                    placed[i] = replace(placed[i], start=heard[j].start, end=heard[j].end)
        elif step.tag == "insert" and step.src_start < len(given):
            more = step.dest_end - step.dest_start
            placed[step.src_start] = replace(placed[step.src_start], unwritten=more)
    return placed


def stretches(
    placed: Sequence[Placed], seconds: float, longest: float = MAX_SECONDS
) -> list[Stretch]:
    """Cut placed words at pauses into stretches of at most `longest` seconds.

    A cut lies in the pause between two neighbouring words that were both heard, because only there
    no word can be cut off. After `TARGET` seconds the next pause ends a stretch; if there is no
    pause, the longest gap does.

    Args:
        placed: from `place`.
        seconds: the recording's length.
        longest: limit of a stretch in seconds.
    """
    found: list[Stretch] = []
    for first, after in pairwise(_breaks(placed)):
        begin = next((w.end for w in reversed(placed[:first]) if w.end is not None), 0.0)
        end = next((w.start for w in placed[after:] if w.start is not None), seconds)
        found += _chunks(placed[first:after], begin, max(begin, end), longest)
    return found


def _breaks(placed: Sequence[Placed]) -> list[int]:
    # Indices of words before which a stretch must begin, and the number of words.
    breaks = {0, len(placed)}
    breaks |= {i for i, word in enumerate(placed) if word.unwritten >= UNWRITTEN}
    place = 0
    for heard, words in groupby(placed, key=lambda word: word.start is not None):
        count = len(list(words))
        if not heard and count >= UNHEARD:
            breaks |= {place, place + count}
        place += count
    return sorted(breaks)


def _chunks(
    placed: Sequence[Placed], start: float, seconds: float, longest: float
) -> list[Stretch]:
    cuts: list[tuple[int, float, float]] = []  # index of the next word, time, length of the pause
    for i in range(1, len(placed)):
        before, after = placed[i - 1].end, placed[i].start
        if before is not None and after is not None:
            cuts.append((i, max(0.0, (before + after) / 2), after - before))
    found: list[Stretch] = []
    first = 0
    while first < len(placed):
        rest = [cut for cut in cuts if cut[0] > first and cut[1] > start]
        inside = [cut for cut in rest if cut[1] - start <= longest]
        ripe = [cut for cut in inside if cut[1] - start >= TARGET and cut[2] >= PAUSE]
        last = seconds - start <= longest
        if ripe:
            chosen = ripe[0]
        elif last or not rest:
            chosen = (len(placed), seconds, 0.0)
        elif inside:
            chosen = max(inside, key=lambda cut: (cut[2], cut[1]))
        else:
            chosen = rest[0]  # nothing was heard for so long; the stretch will be left out
        words = placed[first : chosen[0]]
        known = [word for word in words if word.start is not None]
        begin, end = start, chosen[1]
        if words and words[0].start is not None:
            begin = max(begin, words[0].start - MARGIN)
        if words and words[-1].end is not None:
            end = min(end, words[-1].end + MARGIN)
        found.append(Stretch(begin, end, " ".join(w.text for w in words), len(known) / len(words)))
        first, start = chosen[0], chosen[1]
        cuts = [cut for cut in cuts if cut[0] > first]
    return found


def _cut(
    file: Path,
    recording: str,
    text: str,
    heard: Sequence[Word],
    seconds: float,
    row: dict[str, Any],
) -> Found:
    for found in stretches(place(text.split(), heard), seconds):
        where = f"{recording} at {found.start:.2f} s"
        if found.heard < HEARD:
            yield LeftOut(
                where,
                f"until {found.end:.2f} s the model heard only {found.heard:.0%} of the words as "
                f"they are written: {found.text[:60]!r}",
                "check that the transcript is complete, or use a larger --base",
            )
        elif found.end - found.start > MAX_SECONDS:
            yield LeftOut(
                where,
                f"no safe place to cut was found until {found.end:.2f} s: {found.text[:60]!r}",
                "cut the recording by hand, with the words of each piece",
            )
        else:
            yield Piece(
                file, recording, found.text, where, start=found.start, end=found.end, row=row
            )


def _text(path: Path) -> str | LeftOut:
    if leads_out(path.parent, path):
        return LeftOut(path.name, "it is a link out of its folder", "put the file itself there")
    if not path.is_file():
        return LeftOut(path.name, "the recording has no transcript", f"write {path.name}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return LeftOut(
            path.name,
            f"more than {MAX_BYTES:,} bytes are too many for a transcript",
            "check the file",
        )
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        return LeftOut(path.name, "it is not UTF-8", "save it as UTF-8")


def _listener(options: ImportOptions) -> Any:
    try:
        from mmtune.speech.transcription.predictor import open_predictor
        from mmtune.speech.transcription.transcribe import timed_words
    except ImportError as error:
        raise DataError(f"--align failed: {error}", "install mmtune with its models") from None
    predictor = open_predictor(options.base, language=options.language)

    def listen(audio: Any) -> list[Word]:
        return timed_words(predictor, audio, language=options.language)

    return listen
