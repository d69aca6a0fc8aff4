"""Check recordings: length, level, clipping, bandwidth, channels, and empty transcripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.ledger import Guess, Used
from mmtune.data.manifest import scan_files
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.data.text_beside import read_words, text_beside, without_words
from mmtune.speech.corpus.check_transcript import check_terms, check_text
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.speech.sound.channels import QUIET, ChannelMeter, Channels
from mmtune.speech.sound.read import (
    SAMPLE_RATE,
    AudioFault,
    AudioInfo,
    choose_channel,
    content_of,
    decode,
    locate,
    probe,
    span_of,
    whole_hash,
)
from mmtune.speech.sound.signal import Signal, SignalMeter
from mmtune.speech.speech_row import SOURCE, SpeechRow, speech_row, speech_rows

SPEECH_SUFFIXES = SpeechRow.suffixes
CLIPPED = 0.001  # share of samples in runs at full scale, above which a recording is clipped
TELEPHONE = {"telephone", "phone", "call"}  # labels of recordings that are narrowband on purpose
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)  # Hz
MIN_ROWS_TO_JUDGE = 10  # of fewer, nothing is said about what all rows share
MAX_SECONDS = 30.0  # Whisper's window; it never hears what is beyond


def scan(folder: Path) -> Iterator[dict[str, Any] | Finding | Used | Guess]:
    """Yield a row for each recording of a folder, with the transcript in the .txt of its name."""
    for name, relative in scan_files(folder, SPEECH_SUFFIXES):
        row: dict[str, Any] = {"id": name, "audio": relative.as_posix()}
        beside = text_beside(folder / relative)
        words = read_words(beside, folder, name)
        if isinstance(words, Finding):
            yield words
            yield without_words(folder / relative, name)
        elif words is None:
            yield row
        else:
            yield Used(beside)
            yield {**row, "text": words}


def inspect(row: Row) -> Inspection:
    """Decode one recording completely and report findings; bad recordings raise nothing.

    Facts: duration_s, sample_rate (Hz), channels, peak (full scale = 1).
    """
    row = speech_row(row)
    frames = 0
    try:
        info = probe(row.path)
        span = span_of(row)
        first, last = locate(row.path, info, span)
        seconds = (last - first) / info.rate
        if seconds > MAX_SECONDS:
            raise AudioFault(
                "too-long",
                f"{row.path} is {seconds:.1f} s long; Whisper hears at most {MAX_SECONDS:.0f} s",
                "let a model find the cuts: mmtune import SOURCE --to NEW_FOLDER --align "
                "--base starter:whisper-base; or cut it at pauses into files, or into rows with "
                "start and end, each with its words",
            )
        if first == last:
            raise AudioFault(
                "zero-length", f"{row.path} holds no samples", "record it again, or remove the row"
            )
        meter, signal = ChannelMeter(info.rate), SignalMeter(info.rate)
        for block in decode(row.path, info, first, last):
            meter.add(block)
            signal.add(block[:, span.channel] if isinstance(span.channel, int) else block)
            frames += len(block)
        channels = meter.verdict()
        if span.channel is None:
            choose_channel(row.path, channels, info)
        content, hashes = content_of(row), {row.media: whole_hash(row.path)}
    except AudioFault as fault:
        return Inspection("", [Finding(fault.kind, row.id, fault.found, fault.cure)])
    seconds, heard = frames / info.rate, signal.result()
    facts = {
        "duration_s": round(seconds, 4),
        "sample_rate": float(info.rate),
        "channels": float(info.channels),
        "peak": round(heard.peak, 5),
    }
    used = channels.wanted if span.channel is None else span.channel
    # The meter of a row with a channel has measured that channel alone.
    levels = heard.levels or (0.0,)
    level = levels[used if span.channel is None and isinstance(used, int) else -1]
    findings = [*_judge(row, level), *_judge_signal(row, info, seconds, heard)]
    findings += check_text(row, seconds)
    if info.note:
        findings.append(
            Finding(
                "stated-length",
                row.id,
                f"{row.path}: {info.note}; all of its sound is used",
                "no action is needed, but other programs may cut it: "
                "ffmpeg -i IN OUT.flac writes it again",
                "warning",
            )
        )
    if span.channel is None:
        findings += _judge_channels(row, channels)
    return Inspection(content, findings, facts, hashes=hashes)


def check_rows(rows: Sequence[Row], terms: Path | None = None) -> list[Finding]:
    """Report findings that need all rows: one transcript for most rows, spellings of terms, no
    speakers where splits are drawn.

    Args:
        rows: all rows.
        terms: a term list; transcripts are compared with it and with the rows' own terms.

    Raises:
        ConfigError: the list can't be read.
    """
    speech = speech_rows(rows)
    listed = [] if terms is None else [term.text for term in read_terms(find_terms(terms))]
    findings = [*check_terms(speech, listed), *_check_speakers(speech)]
    spoken = [row.text for row in speech if not row.nonspeech]
    words, count = Counter(spoken).most_common(1)[0] if spoken else ("", 0)
    if len(spoken) < MIN_ROWS_TO_JUDGE or count * 2 <= len(spoken):
        return findings
    return [
        *findings,
        Finding(
            "same-text",
            "all rows",
            f"{count} of {len(spoken)} recordings have the transcript {words[:60]!r}",
            "check whether the export repeated one transcript",
            "warning",
        ),
    ]


def _check_speakers(rows: Sequence[SpeechRow]) -> Iterator[Finding]:
    """Warn if a test is drawn from rows of which none names its speaker."""
    drawn = len(rows) >= MIN_ROWS_TO_JUDGE and not any(row.split == "test" for row in rows)
    if drawn and not any(row.speaker for row in rows):
        yield Finding(
            "no-speakers",
            "all rows",
            "no speaker is known, so the same voice can be in training and test, which are drawn "
            "from these rows",
            "name each row's speaker (speaker in the manifest, --speaker-column of an import), or "
            "name the test rows: split",
            "warning",
        )


def _judge(row: SpeechRow, peak: float) -> Iterator[Finding]:
    said = bool(row.text.strip())
    if peak <= QUIET and said:
        yield Finding(
            "silent",
            row.id,
            f"{row.path} is silent (peak {peak:.1e}), but its transcript is {row.text[:60]!r}",
            "record it again, or remove the row: it would teach the model to invent words"
            + ("; if its channels cancel each other, choose one" if row.channel == "mix" else ""),
        )
    if peak > QUIET and not said and not row.nonspeech:
        yield Finding(
            "empty-text",
            row.id,
            f"{row.path} has sound, but its transcript is empty",
            'write the transcript or remove the row; if nobody speaks, set "nonspeech": true',
        )


def _judge_signal(
    row: SpeechRow, info: AudioInfo, seconds: float, heard: Signal
) -> Iterator[Finding]:
    if heard.clipped > CLIPPED:
        yield Finding(
            "clipped",
            row.id,
            f"{row.path} is clipped: {heard.clipped:.1%} of its samples are cut off at full scale",
            "record it again with less gain; ignore this if all recordings are like that",
            "warning",
        )
    # A row that is labelled as a telephone call needs no warning. An import writes calls of 8 kHz
    # at 16 kHz, and doesn't claim more.
    imported = SOURCE in row.group and info.rate == SAMPLE_RATE
    telephone = TELEPHONE & {value.lower() for value in row.group.values()}
    if heard.narrow and not imported and not telephone:
        yield Finding(
            "narrowband",
            row.id,
            f"{row.path} claims {info.rate} Hz, but has no sound above 4 kHz: it was made from a "
            "telephone recording of 8000 Hz",
            "use a wideband original if there is one; ignore this if you will transcribe calls",
            "warning",
        )
    if row.duration_s is not None and abs(row.duration_s - seconds) > 0.1 + 0.02 * seconds:
        # The samples may have been written at one rate and labelled with another.
        other = info.rate * seconds / row.duration_s if row.duration_s else 0.0
        real = next((rate for rate in RATES if abs(rate - other) < 0.02 * rate), None)
        yield Finding(
            "duration",
            row.id,
            f"{row.path} lasts {seconds:.2f} s, but the row says {row.duration_s:.2f} s"
            + (f": its rate may be {real} Hz instead of {info.rate} Hz" if real else ""),
            "check that it is the right file",
            "warning",
        )


def _judge_channels(row: SpeechRow, found: Channels) -> Iterator[Finding]:
    if found.kind == "stereo":
        yield Finding(
            "stereo",
            row.id,
            f"{row.path} is one source in stereo (correlation {found.correlation:.2f}); the mean "
            "of its channels is used",
            'set "channel": "mix" to confirm, or the number of one channel',
            "warning",
        )
    if found.kind == "one-sided":
        yield Finding(
            "one-sided",
            row.id,
            f"{row.path} has sound on channel {found.loudest} only, which is used",
            f'set "channel": {found.loudest} to confirm',
            "warning",
        )
