"""`mmtune.transcribe`: recordings of any length to text, with a base model or an adapter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from mmtune.adapters.resolve import resolve_adapters
from mmtune.data.check import usable_rows
from mmtune.data.rows import Row
from mmtune.errors import ConfigError, DataError
from mmtune.speech import MODALITY
from mmtune.speech.corpus.speech_reader import READER
from mmtune.speech.speech_row import speech_row
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import unique_name
from mmtune.system.progress import counted
from mmtune.system.quiet import public_call

if TYPE_CHECKING:
    from mmtune.speech.transcription.predictor import SpeechPredictor
    from mmtune.speech.transcription.retrieve import TermIndex
    from mmtune.speech.transcription.transcribe import ChannelChoice
    from mmtune.speech.transcription.transcript import Transcript


@dataclass(frozen=True)
class TranscribedFile(Displayed):
    """A recording, and what was said in it.

    Attributes:
        path: the file.
        name: for a file to write the transcript to, without suffix; unique among its neighbours.
        row: the id of the manifest's row that names it; None for a file.
        transcript: None where the recording can't be read.
        error: why; empty where it can.
    """

    path: Path
    name: str
    row: str | None = None
    transcript: Transcript | None = None
    error: str = ""

    @property
    def text(self) -> str:
        """All that was said; empty where the recording can't be read."""
        return self.transcript.text if self.transcript is not None else ""

    @property
    def label(self) -> str:
        """The row's id or the file's path."""
        return str(self.path) if self.row is None else self.row

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: file, id of the row, and those of the transcript, or the error."""
        values: dict[str, Any] = {"file": str(self.path)}
        values |= {} if self.row is None else {"id": self.row}
        return values | (
            {"error": self.error} if self.transcript is None else self.transcript.to_dict()
        )

    def shown(self) -> Iterable[str | Rows]:
        """The text, or the error."""
        return [self.text if self.transcript is not None else f"error: {self.error}"]


@dataclass(frozen=True)
class Transcripts(Displayed, Sequence[TranscribedFile]):
    """Transcribed recordings, in the order in which they were given.

    Attributes:
        files: one for each recording, and for each row of a manifest that can't be used.
        notes: what the user should know.
    """

    files: tuple[TranscribedFile, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, place: int) -> TranscribedFile: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[TranscribedFile]: ...
    def __getitem__(self, place: int | slice) -> TranscribedFile | Sequence[TranscribedFile]:
        return self.files[place]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"files": [each.to_dict() for each in self.files], "notes": list(self.notes)}

    def shown(self) -> Iterable[str | Rows]:
        """The text of a single recording, or a table of several."""
        notes = [f"note: {note}" for note in self.notes]
        if len(self.files) == 1:
            return [*self.files[0].shown(), *notes]
        lines = [[each.label, "\n".join(map(str, each.shown()))] for each in self.files]
        return [[["recording", "text"], *lines], *notes]


@public_call("transcribe")
def transcribe(
    files: str | Path | Sequence[str | Path],
    *,
    adapter: str | Path | None = None,
    base: str | None = None,
    label: str | None = None,
    language: str | None = None,
    prompt: str | None = None,
    terms: str | Path | Sequence[str] | None = None,
    beams: int = 1,
    words: bool = False,
    channels: ChannelChoice = "auto",
    speakers: Sequence[str] = (),
    progress: bool | None = None,
    on_each: Callable[[TranscribedFile, int], None] | None = None,
) -> Transcripts:
    """Turn recordings of any length into text.

    Args:
        files: audio files, folders (searched recursively) and manifests (.jsonl; their rows'
            spans, languages, prompts and labels count); one or several.
        adapter: a run's folder, its adapter/, a folder that `mmtune.compose(route=…)` wrote, or a
            folder of PEFT, which needs `base` unless its config names it; None: the base alone.
        base: a base model; None: the adapter's.
        label: of a route: selects the adapters for all recordings.
        language: a name, code or tag ("German", "de", "de-AT"); None: the adapter's, or heard.
        prompt: earlier text, or words to expect.
        terms: words to spell correctly: a text file with one a line, or a list.
        beams: hypotheses that are followed; 1 is greedy.
        words: give each word's times too; a segment is then a sentence.
        channels: "auto" transcribes channels apart that differ, as the two sides of a call do;
            "split" all of them; "mix" their mean.
        speakers: names of channels that are transcribed apart.
        progress: show a bar, if there are several recordings; None: in a terminal and in Jupyter.
        on_each: is called with each recording as soon as it is transcribed, and with the number of
            recordings.

    Returns:
        One entry for each recording. A recording of several that can't be read has an `error` in
        place of its text.

    Raises:
        ConfigError: a file is missing, no model is named, or a setting is impossible.
        AdapterError: the adapter doesn't fit the base, or changes nothing.
        DataError: the only recording can't be read, or a manifest can't be used.
    """
    model = Transcriber(
        adapter=adapter,
        base=base,
        label=label,
        language=language,
        prompt=prompt,
        terms=terms,
        beams=beams,
        words=words,
        channels=channels,
        speakers=speakers,
    )
    paths = [files] if isinstance(files, (str, Path)) else files
    inputs, unusable = _inputs([Path(path) for path in paths])
    if inputs:
        model.load()
    done: list[TranscribedFile] = []

    def add(each: TranscribedFile) -> None:
        done.append(each)
        if on_each is not None:
            on_each(each, len(inputs))

    for each in unusable:
        add(each)
    with counted("transcribing", progress if len(inputs) > 1 else False) as count:
        for place, item in enumerate(inputs, start=1):
            transcript, error = None, ""
            try:
                transcript = model.hear(item.path if item.row is None else item.row)
            except DataError as problem:
                if len(inputs) == 1:
                    raise
                error = str(problem)  # one bad file of a folder doesn't stop the others
            row = item.row.id if item.row is not None else None
            add(TranscribedFile(item.path, item.name, row, transcript, error))
            count(place, len(inputs))
    return Transcripts(tuple(done), tuple(model.notes([item.row for item in inputs])))


class Transcriber:
    """A model that transcribes one recording after another.

    Arguments and errors are those of `transcribe`; the model is loaded when it is first needed.
    """

    def __init__(
        self,
        *,
        adapter: str | Path | None = None,
        base: str | None = None,
        label: str | None = None,
        language: str | None = None,
        prompt: str | None = None,
        terms: str | Path | Sequence[str] | None = None,
        beams: int = 1,
        words: bool = False,
        channels: ChannelChoice = "auto",
        speakers: Sequence[str] = (),
    ) -> None:
        given = {MODALITY.own_form(Path(adapter), base): 1.0} if adapter is not None else {}
        self.model = resolve_adapters("speech", given, base=base, label=label)
        self.language, self.beams = language, beams
        self.prompt, self.words = prompt, words
        self.channels, self.speakers, self._terms = channels, list(speakers), terms
        self._loaded: tuple[SpeechPredictor, TermIndex | None] | None = None

    def load(self) -> tuple[SpeechPredictor, TermIndex | None]:
        """Load the model and the term list, unless they are loaded already."""
        from mmtune.speech.transcription import predictor as models

        if self._loaded is None:
            index = _term_index(self._terms)
            predictor = models.open_predictor(
                self.model.base, self.model.adapters, language=self.language, beams=self.beams
            )
            self._loaded = predictor, index
        return self._loaded

    def hear(self, item: Path | Row) -> Transcript:
        """Transcribe a file, or what a row of a manifest names.

        Raises:
            DataError: it can't be read.
        """
        from mmtune.speech.transcription import transcribe as speech

        predictor, index = self.load()
        return speech.transcribe(
            item,
            predictor,
            weights=self.model.choose(None if isinstance(item, Path) else item),
            prompt=self.prompt,
            words=self.words,
            channels=self.channels,
            names=self.speakers,
            terms=index,
        )

    def notes(self, rows: Sequence[Row | None]) -> list[str]:
        """What the user should know; a file has None for its row."""
        if not rows:
            return []
        notes = [*self.model.notes]
        notes += [self.model.note] if self.model.note and None in rows else []
        named = {speech_row(row).language for row in rows if row is not None}
        if self.language:
            named.add(self.load()[0].language)
        ignored = sorted(code for code in named if code is not None and code != "en")
        if ignored and not (base := self.load()[0].base).multilingual:
            notes.append(f"{base.name} knows English only: it ignores {', '.join(ignored)}")
        return notes


def _term_index(terms: str | Path | Sequence[str] | None) -> TermIndex | None:
    from mmtune.speech.transcription.retrieve import TermIndex, read_list

    if terms is None:
        return None
    if isinstance(terms, (str, Path)):
        listed = read_list(Path(terms))
        return TermIndex(listed.terms, listed.spoken, listed.name, listed.lines)
    return TermIndex(terms)


@dataclass(frozen=True)
class _Input:
    """A recording to transcribe: a file, or what a row of a manifest names."""

    path: Path
    name: str  # of what is written for it, without suffix
    row: Row | None = None


def _inputs(paths: Sequence[Path]) -> tuple[list[_Input], list[TranscribedFile]]:
    """What to transcribe, and the rows of manifests that can't be.

    Raises:
        ConfigError: a file is missing, or a folder holds no recording.
        DataError: a manifest can't be used.
    """
    manifests = [path for path in paths if path.suffix == ".jsonl" and path.is_file()]
    found = _recordings([path for path in paths if path not in manifests])
    inputs = [_Input(path, name) for path, name in found.items()]
    taken, unusable = set(found.values()), list[TranscribedFile]()
    for manifest in manifests:
        rows, wrong = usable_rows(manifest, READER)
        unusable += [TranscribedFile(manifest, "", error=text) for text in wrong]
        for row in rows:
            words = [re.sub(r"[^\w.-]", "_", part).strip(".") for part in row.id.split("/")]
            name = unique_name("/".join(filter(None, words)) or "row", taken)
            taken.add(name)
            inputs.append(_Input(row.path, name, row))
    return inputs, unusable


def _recordings(paths: Sequence[Path]) -> dict[Path, str]:
    """The files to transcribe, and the name (without suffix) of what is written for each.

    Raises:
        ConfigError: one is missing, or a folder holds no recording.
    """
    from mmtune.data.manifest import scan_files
    from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES

    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            files = list(scan_files(path, SPEECH_SUFFIXES))
            if not files:
                raise ConfigError(f"{path} holds no recording", "name a folder of audio files")
            found |= {path / relative: name for name, relative in files}
        elif path.is_file():
            found[path] = path.stem
        else:
            raise ConfigError(f"no such file: {path}", "name existing audio files")
    counts = Counter(found.values())
    # Files of one name from several places keep their suffix or, if that is the same, a number.
    taken: set[str] = set()
    for path, name in found.items():
        found[path] = unique_name(name if counts[name] == 1 else path.name, taken)
        taken.add(found[path])
    return found
