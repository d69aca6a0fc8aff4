"""Score whole calls: each side of a held-out call is heard as `mmtune transcribe` hears it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from mmtune.data.manifest import BY_SPLIT, WHOLE, keys_of, lines_of, scan_files
from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.answers import StoredPredictor
from mmtune.metrics.metric import Metric
from mmtune.metrics.text.number_recall import NumberRecall
from mmtune.metrics.text.speaker_errors import REFERENCES, STREAMS, SpeakerWordErrors
from mmtune.metrics.text.term_finder import TermFinder
from mmtune.metrics.text.term_recall import TermRecall
from mmtune.metrics.text.variants import Variants
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.corpus.check_recording import MAX_SECONDS, SPEECH_SUFFIXES
from mmtune.speech.corpus.importers import ImportOptions, LeftOut, read_pieces, recognise
from mmtune.speech.corpus.importers.piece import Piece
from mmtune.speech.evaluation.items import Active, Item, hear
from mmtune.speech.evaluation.long_form import LONG
from mmtune.speech.evaluation.term_slices import spoken_terms
from mmtune.speech.sound.info import AudioFault
from mmtune.speech.sound.read import content_of, probe
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SOURCE, SpeechRow
from mmtune.speech.transcription.predictor import SpeechPredictor

CALLS = "calls"  # one item for each side of a call
BY_SPEAKER = "calls, by speaker"  # one item for each call
SIDE = "side"  # label of a row: the role, or the channel's number
LOOKED_AT = 100  # lines of a table that tell whether it is a manifest


@dataclass(frozen=True)
class Call:
    """A recording: a row for each side that is heard alone, and the words of each speaker."""

    name: str
    sides: tuple[SpeechRow, ...]
    speakers: tuple[str, ...]


def read_calls(options: SpeechOptions) -> list[Call]:
    """Read the calls of `task.calls` with their transcripts, in any layout that import reads.

    Raises:
        ConfigError: `task.call_speakers` is written wrongly.
        DataError: a part of the calls has no transcript, channel or sound that can be used.
    """
    if options.calls is None:
        return []
    try:
        settings = ImportOptions.model_validate(
            {"language": options.language, "speakers": options.call_speakers}
        )
    except ValidationError as error:
        found = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(
            f"call_speakers = {options.call_speakers!r}: {found}", "write agent=0,customer=1"
        ) from None
    by_recording: dict[str, list[Piece]] = {}
    unusable: list[LeftOut] = []
    for item in read_pieces(options.calls, settings):
        if isinstance(item, Piece):
            by_recording.setdefault(item.recording, []).append(item)
        elif isinstance(item, LeftOut) and item.level != "note":
            unusable.append(item)
    if unusable:
        first = unusable[0]
        raise DataError(
            f"{len(unusable)} parts of the calls in {options.calls} can't be scored, the first: "
            f"{first.where}: {first.found}",
            first.cure,
        )
    if not by_recording:
        raise DataError(f"{options.calls} holds no call", "name a folder of calls with transcripts")
    return [_call(name, pieces, settings) for name, pieces in by_recording.items()]


def is_calls(source: Path) -> bool:
    """Whether a source holds calls, and not rows that are checked and trained on.

    A manifest of mmtune holds rows. So does a folder of recordings with texts of their names, if
    all of them have one channel and are short enough for Whisper's window. Subtitles, tables and
    other layouts that `mmtune import` reads hold calls.
    """
    manifests = [source] if source.is_file() else [source / name for name in (WHOLE, *BY_SPLIT)]
    for path in manifests:
        if path.suffix.lower() in (".jsonl", ".ndjson") and path.is_file():
            lines = islice(lines_of(path, SpeechRow), LOOKED_AT)
            if any(SpeechRow.media in keys_of(line) for _, line in lines):
                return False
    layout = recognise(source) if source.exists() else None
    if layout != "transcripts":
        return layout is not None
    sounds = (source / path for _, path in scan_files(source, SPEECH_SUFFIXES))
    for sound in sounds:
        try:
            info = probe(sound)
        except AudioFault:
            continue  # the check reports it
        if info.channels > 1 or (info.frames or 0) > MAX_SECONDS * info.rate:
            return True
    return False


def whole_calls(
    predictor: StoredPredictor[SpeechPredictor],
    active: Active,
    scored: Collection[str],
    options: SpeechOptions,
    variants: Variants,
) -> list[Item]:
    """Transcribe `task.calls` with each model.

    Args:
        predictor: with all models of `active`, and `LongForm` as the variant `LONG`.
        active: adapters of each model.
        scored: terms to find.
        options: settings of the comparison.
        variants: other spellings of terms that count as right.

    Returns:
        Items of the kind `CALLS`, one for each side, and of the kind `BY_SPEAKER`, one for each
        call. A call is a cluster.
    """
    calls = read_calls(options)
    if not calls:
        return []
    rows = [row for call in calls for row in call.sides]
    answers = hear(predictor.variant(LONG), active, rows)
    heard = {row.id: answer for row, answer in zip(rows, answers, strict=True)}
    finder = TermFinder(scored, options.language, variants.table)
    found: list[Item] = []
    for call in calls:
        cluster = ("call", call.name)
        for row in call.sides:
            terms = frozenset(spoken_terms(finder, row, options))
            found.append(Item(row, heard[row.id], cluster, terms, CALLS))
        together: dict[str, Prediction] = {}
        for model in active:
            streams = [str(heard[row.id][model].value) for row in call.sides]
            details = {REFERENCES: list(call.speakers), STREAMS: streams}
            together[model] = Prediction(call.name, " ".join(streams), details)
        whole = call.sides[0].model_copy(
            update={"id": f"{call.name}, by speaker", "text": " ".join(call.speakers)}
        )
        found.append(Item(whole, together, cluster, kind=BY_SPEAKER))
    return found


def call_metrics(
    items: Iterable[Item], terms: Collection[str], options: SpeechOptions, variants: Variants
) -> list[tuple[Metric, str, list[Item]]]:
    """Return the metrics of whole calls, each with its slice and items."""
    calls = [item for item in items if item.kind == CALLS]
    whole = [item for item in items if item.kind == BY_SPEAKER]
    if not calls:
        return []
    language = options.language
    words = WordErrors(language, variants)
    found: list[tuple[Metric, str, list[Item]]] = [
        (SpeakerWordErrors(language, variants), CALLS, whole),
        (words, CALLS, calls),
    ]
    sides = sorted({item.row.group[SIDE] for item in calls})
    for side in sides if len(sides) > 1 else ():
        own = [item for item in calls if item.row.group[SIDE] == side]
        found.append((words, f"{CALLS}, {side}", own))
    others: list[Metric] = [NumberRecall(language), NumberRecall(language, long=True)]
    if terms:
        others.insert(0, TermRecall(terms, language, variants))
    for metric in others:
        # A side in which none is spoken tells nothing, and must not count as an item.
        spoken = [
            item
            for item in calls
            if metric.reduce([metric.observe(item.row, item.heard["base"])]) is not None
        ]
        if spoken:
            found.append((metric, CALLS, spoken))
    return found


def _call(name: str, pieces: list[Piece], settings: ImportOptions) -> Call:
    pieces = sorted(pieces, key=lambda piece: piece.start)
    sides: list[SpeechRow] = []
    for channel in dict.fromkeys(piece.channel for piece in pieces):
        own = [piece for piece in pieces if piece.channel == channel]
        voice = str(own[0].row.get("speaker") or "")
        role = voice.removeprefix(f"{name}: ")
        number = channel if isinstance(channel, int) else None
        known = settings.name_of(number) or (role if role != voice else "")
        if not known and number is not None:
            known = f"channel {number}"
        row = SpeechRow(
            id=name if channel is None else f"{name}, channel {channel}",
            audio=str(Path(str(own[0].file)).resolve()),
            text="",
            nonspeech=True,
            channel=channel,
            language=own[0].row.get("language"),
            group={SOURCE: name, SIDE: known.casefold() or "one channel"},
        )
        # A call is longer than the texts that a row of a manifest may have.
        said = " ".join(" ".join(piece.text.split()) for piece in own)
        content = content_of(row)
        sides.append(row.model_copy(update={"text": said, "nonspeech": False, "content": content}))
    voices: dict[tuple[object, object], list[str]] = {}
    for piece in pieces:
        key = (piece.channel, piece.row.get("speaker"))
        voices.setdefault(key, []).append(" ".join(piece.text.split()))
    return Call(name, tuple(sides), tuple(" ".join(texts) for texts in voices.values()))
