"""Divide the transcripts of several people and of long recordings: by speaker, channel and time.

A call has a channel for each side, and often one transcript for both. Labels ("Agent: …") and
`--speakers agent=0,customer=1` say which words belong to which channel. Without them a model hears
each channel, and the words are given to the channel in which it heard them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmtune.errors import DataError
from mmtune.speech.corpus.check_recording import MAX_SECONDS
from mmtune.speech.corpus.importers.alignment import Placed, place, stretches
from mmtune.speech.corpus.importers.on_disk import on_disk
from mmtune.speech.corpus.importers.piece import Found, Guess, ImportOptions, LeftOut, Piece
from mmtune.speech.corpus.importers.sides import assign, loudness_of, numbered, person
from mmtune.speech.corpus.speaker_labels import FROM_LABEL, read_labels
from mmtune.speech.sound.read import SAMPLE_RATE, AudioFault, probe, read_audio, read_channels
from mmtune.speech.speech_row import SENTENCE_ENDS

if TYPE_CHECKING:
    from mmtune.speech.whisper.word_times import Word

Track = NDArray[np.float32]
Listener = Callable[[Sequence[Track]], list[list["Word"]]]
Parts = Iterator[Piece | LeftOut | Guess]

HEARD = 0.6  # least share of a piece's words that the model heard as they are written
SILENCE = 2.0  # seconds of pause that end a piece of one side of a call: the other side speaks
LONGEST_SPAN = 4 * 3600.0
# Prices of giving a word to another channel than the word before it, and to a channel in which it
# wasn't heard, though it was in another.
CHANGE, CHANGE_AFTER_SENTENCE, ELSEWHERE = 2.0, 0.5, 1.0
STAMP = re.compile(r"\s*[\[(]\s*\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?\s*[\])]\s*")  # [00:12]
NUMBER = re.compile(r"\d")
NAME_THEM = "name the channels of the speakers: --speakers agent=0,customer=1"
LET_HEAR = "let a model hear: --align --base BASE"


@dataclass(frozen=True)
class Said:
    """A word of a transcript, its speaker's name ("" if unknown), and whether a line ends there."""

    text: str
    speaker: str = ""
    ends: bool = False


def divided(found: Found, options: ImportOptions, *, labels: bool) -> Found:
    """Divide pieces by speaker and channel, and long ones by time if `options.align`.

    Args:
        found: from an importer.
        options: settings of the import.
        labels: whether names at the beginning of lines are speakers.
    """
    opened: list[Listener] = []

    def listen(tracks: Sequence[Track]) -> list[list[Word]]:
        if not opened:
            opened.append(open_listener(options))
        return opened[0](tracks)

    for item in found:
        if not isinstance(item, Piece) or item.nonspeech:
            yield item
            continue
        try:
            with on_disk(item) as file:
                parts = list(_divide(item, file, options, listen, labels))
        except AudioFault:
            parts = [item]  # writing it gives the error
        yield from _counted_once(item, parts)


def _counted_once(piece: Piece, parts: Sequence[Piece | LeftOut | Guess]) -> Found:
    """Count the lines of a divided piece with its first part; without parts, as left out."""
    counted = next((i for i, part in enumerate(parts) if isinstance(part, Piece)), 0)
    about = piece.table or ("" if isinstance(piece.file, bytes) else str(piece.file))
    for i, part in enumerate(parts):
        items = piece.items if i == counted and piece.table else 0
        if isinstance(part, Piece):
            yield replace(part, items=items)
        elif isinstance(part, LeftOut):
            yield replace(part, file=about, items=items)
        else:
            yield part


def open_listener(options: ImportOptions) -> Listener:
    """Load the model of `options.base`, which finds the words of each track with their times."""
    try:
        from mmtune.speech.transcription.predictor import open_predictor
        from mmtune.speech.transcription.transcribe import listen
    except ImportError as error:
        raise DataError(f"--align failed: {error}", "install mmtune with its models") from None
    predictor = open_predictor(options.base, language=options.language)

    def hear(tracks: Sequence[Track]) -> list[list[Word]]:
        found, _ = listen(predictor, tracks, language=options.language, words=True)
        return [[word for segment in each for word in segment.words] for each in found]

    return hear


def words_of(
    text: str, options: ImportOptions, *, labels: bool = True, sides: bool = False
) -> list[Said]:
    """Return the words of a transcript with their speakers.

    Each line may begin with a speaker's name. Speakers of one line are told apart if it begins with
    one of `options.speakers`, or with a role.

    Args:
        text: the transcript.
        options: settings of the import.
        labels: whether names at the beginning of lines are speakers.
        sides: whether the recording has a channel for each speaker. Otherwise a single name counts
            only if `options` knows it, or if it has a number: "Patient: no fever" is dictated.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not labels:
        return _said([("", line) for line in lines])
    if 2 * sum(bool(STAMP.match(line)) for line in lines) > len(lines):
        lines = [STAMP.sub("", line, count=1) for line in lines]
    known = options.speaker_names
    names = {name for name, _ in read_labels(lines, known, sides=sides) if name}
    if not names:
        return _said([("", line) for line in lines])
    # "Agent: Good morning. Customer: Hello." in one cell of a table.
    some = "|".join(re.escape(name) for name in sorted({*names, *known}, key=len, reverse=True))
    inner = re.compile(rf"(?<=\s)(?=(?:{some}|agent|customer|caller)\s*:\s)", re.IGNORECASE)
    parts = [part for line in lines for part in inner.split(line) if part.strip()]
    turns = read_labels(parts, {*known, *(name.casefold() for name in names)}, sides=sides)
    named = [name for (name, said), part in zip(turns, parts, strict=True) if said != part.strip()]
    if len(named) == 1 and not (sides or named[0].casefold() in known or NUMBER.search(named[0])):
        return _said([("", line) for line in lines])
    return _said(turns)


def _said(turns: Sequence[tuple[str, str]]) -> list[Said]:
    found: list[Said] = []
    for speaker, text in turns:
        words = text.split()
        found += [Said(word, speaker, i == len(words) - 1) for i, word in enumerate(words)]
    return found


def _divide(
    piece: Piece, file: Path, options: ImportOptions, listen: Listener, labels: bool
) -> Parts:
    info = probe(file)
    seconds = (info.seconds if piece.end is None else piece.end) - piece.start
    long = seconds > MAX_SECONDS
    several = info.channels > 1 and piece.channel is None and options.channel is None
    said = words_of(piece.text, options, labels=labels, sides=several)
    speakers = list(dict.fromkeys(word.speaker for word in said if word.speaker))
    if not said or not (speakers or long or (labels and several and options.speakers)):
        yield piece
        return
    if not several or loudness_of(file) is None:
        if several:  # its channels are equal, so it has no sides
            said = words_of(piece.text, options, labels=labels)
        yield from _of_one_track(piece, said, file, options, listen if long else None)
        return
    numbers = {name: options.speakers.get(name.casefold(), numbered(name)) for name in speakers}
    decided = bool(speakers) and None not in numbers.values()
    if not decided and not options.align:
        if speakers:
            found = f"its channels differ, and the speakers {', '.join(speakers)} have no channel"
            yield LeftOut(piece.where, found, f"{NAME_THEM}, or {LET_HEAR}")
        else:
            found = "its channels differ, and nothing says which words belong to which"
            cure = "begin each line with its speaker (Agent: …) and add --speakers agent=0,"
            cure += f"customer=1; or {LET_HEAR}; or add --channel mix"
            yield LeftOut(piece.where, found, cure)
        return
    heard: list[list[Word]] = []
    if options.align and (long or not decided):
        tracks = read_channels(file, start=piece.start, end=piece.end, max_seconds=LONGEST_SPAN)
        heard = listen(list(tracks))
    guessed = ""
    if decided:
        channels = [numbers[word.speaker] if word.speaker else None for word in said]
    elif speakers:
        channels = _by_speaker(said, heard)
        guessed = "the channel in which most words of its speaker were heard"
    else:
        channels = by_hearing(said, heard)
        guessed = "the channel in which its words were heard"
    for part in _by_channel(piece, said, channels, heard if long else [], seconds, options):
        if guessed and isinstance(part, Piece):
            yield Guess("channel", str(part.channel), guessed, first=part.where)
        yield part


def _of_one_track(
    piece: Piece,
    said: Sequence[Said],
    file: Path,
    options: ImportOptions,
    listen: Listener | None,
) -> Parts:
    """Pieces of a recording without sides; with `listen` it is too long."""
    speakers = list(dict.fromkeys(word.speaker for word in said if word.speaker))
    if len(speakers) > 1:
        yield LeftOut(
            piece.where,
            f"{' and '.join(speakers[:4])} share one channel, and nothing here tells their voices "
            "apart: rows with the words of several name no speaker",
            "no action is needed for the words; to keep the speakers, record each in a channel of "
            "its own, or give subtitles whose cues name them",
            level="note",
        )
    if listen is None or not options.align:
        text = " ".join(word.text for word in said)
        yield replace(_spoken_by(piece, said, None, options), text=text)
        return
    channel = options.channel if piece.channel is None else piece.channel
    audio = read_audio(
        file, start=piece.start, end=piece.end, channel=channel, max_seconds=LONGEST_SPAN
    )
    heard = listen([audio])[0]
    yield from _cut(piece, said, heard, len(audio) / SAMPLE_RATE, channel, options, None)


def _by_channel(
    piece: Piece,
    said: Sequence[Said],
    channels: Sequence[int | None],
    heard: Sequence[Sequence[Word]],
    seconds: float,
    options: ImportOptions,
) -> Parts:
    pairs = list(zip(said, channels, strict=True))
    for channel, group in groupby(pairs, key=lambda pair: pair[1]):
        if channel is None:
            words = [word for word, _ in group]
            who = f" of {words[0].speaker!r}" if words[0].speaker else ""
            yield LeftOut(
                piece.where,
                f"the channel of these {len(words)} words{who} can't be told: "
                f"{' '.join(w.text for w in words)[:60]!r}",
                f"{NAME_THEM}, and begin each line with its speaker",
            )
    for channel in sorted({each for each in channels if each is not None}):
        own = [word for word, each in pairs if each == channel]
        if heard and channel < len(heard):
            yield from _cut(piece, own, heard[channel], seconds, channel, options, SILENCE)
        else:
            yield replace(
                _spoken_by(piece, own, channel, options),
                text=" ".join(word.text for word in own),
                channel=channel,
                id=f"{piece.id}-{channel}" if piece.id else "",
            )


def _by_speaker(said: Sequence[Said], heard: Sequence[Sequence[Word]]) -> list[int | None]:
    """The channel of each word: that in which most words of its speaker were heard."""
    names = dict.fromkeys(word.speaker for word in said)
    scores: dict[str, list[float]] = {}
    for name in names:
        own = [word.text for word in said if word.speaker == name]
        scores[name] = [
            float(sum(each.match is not None for each in place(own, words))) for words in heard
        ]
    chosen = assign(scores, {name: sum(each) for name, each in scores.items()})
    return [chosen[word.speaker] for word in said]


def by_hearing(said: Sequence[Said], heard: Sequence[Sequence[Word]]) -> list[int | None]:
    """Give each word of a transcript without labels to the channel in which it was heard.

    The given words are aligned with those of all channels in the order of time. Where the speaker
    changes is chosen so that as few words as possible stand in a channel in which they weren't
    heard; a change after a sentence or a line is cheaper (Viterbi's algorithm).

    Returns:
        The channel of each word; None for words between two changes of which another channel heard
        as many, or none heard any.
    """
    merged = sorted(
        ((word, channel) for channel, words in enumerate(heard) for word in words),
        key=lambda pair: pair[0].start,
    )
    matched = place([word.text for word in said], [word for word, _ in merged])
    votes = [None if each.match is None else merged[each.match][1] for each in matched]
    path = _cheapest(said, votes, len(heard))
    result: list[int | None] = []
    for channel, group in groupby(zip(path, votes, strict=True), key=lambda pair: pair[0]):
        own = [vote for _, vote in group]
        others = sum(vote not in (None, channel) for vote in own)
        sure = own.count(channel) > others
        result += [channel if sure else None] * len(own)
    return result


def _cheapest(said: Sequence[Said], votes: Sequence[int | None], count: int) -> list[int]:
    costs = [0.0] * count
    came: list[list[int]] = []
    for i, vote in enumerate(votes):
        ended = i > 0 and (said[i - 1].ends or said[i - 1].text.endswith(SENTENCE_ENDS))
        change = CHANGE_AFTER_SENTENCE if ended else CHANGE
        # One change from the cheapest channel is the only change that can pay.
        least = min(range(count), key=costs.__getitem__)
        before = [new if costs[new] <= costs[least] + change else least for new in range(count)]
        costs = [
            costs[old] + change * (old != new) + ELSEWHERE * (vote not in (None, new))
            for new, old in enumerate(before)
        ]
        came.append(before)
    channel = min(range(count), key=costs.__getitem__)
    path = []
    for before in reversed(came):
        path.append(channel)
        channel = before[channel]
    return path[::-1]


def _cut(
    piece: Piece,
    said: Sequence[Said],
    heard: Sequence[Word],
    seconds: float,
    channel: Any,
    options: ImportOptions,
    silence: float | None,
) -> Parts:
    placed: list[Placed] = place([word.text for word in said], heard)
    first = 0
    for found in stretches(placed, seconds, silence=silence):
        own = said[first : first + len(found.text.split())]
        first += len(own)
        start, end = piece.start + found.start, piece.start + found.end
        side = f", channel {channel}" if silence is not None else ""
        where = f"{piece.recording} at {start:.2f} s{side}"
        if found.heard < HEARD:
            yield LeftOut(
                where,
                f"until {end:.2f} s the model heard only {found.heard:.0%} of the words as "
                f"they are written: {found.text[:60]!r}",
                "check that the transcript is complete, or use a larger --base",
            )
        elif found.end - found.start > MAX_SECONDS:
            yield LeftOut(
                where,
                f"no safe place to cut was found until {end:.2f} s: {found.text[:60]!r}",
                "cut the recording by hand, with the words of each piece",
            )
        else:
            part = _spoken_by(piece, own, channel, options)
            yield replace(
                part,
                text=found.text,
                where=where,
                start=start,
                end=end,
                channel=channel,
                id="",
                row={key: value for key, value in part.row.items() if key != "duration_s"},
            )


def _spoken_by(piece: Piece, said: Sequence[Said], channel: Any, options: ImportOptions) -> Piece:
    """The piece with the speaker of its words: a stated one, or else the label before them."""
    names = {word.speaker for word in said if word.speaker}
    label = names.pop() if len(names) == 1 else ""
    name = label or (options.name_of(channel) if isinstance(channel, int) else "")
    guessed = dict(piece.guessed)
    who = piece.people.get(name.casefold()) or piece.row.get("speaker")
    if who is None and name:
        who = person(name, piece.recording)
        if label and label.casefold() not in options.speakers:
            guessed["speaker"] = FROM_LABEL
    return replace(piece, row={**piece.row, "speaker": who}, guessed=guessed) if who else piece
