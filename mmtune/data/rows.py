"""Rows of a manifest, and the findings of their check. This module must not import torch."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmtune.data.row_rights import Consent, LicenceName

Split = Literal["train", "validation", "test"]

# Names of the same key in other tools (NeMo, lhotse, Hugging Face's folders, kohya).
FILE_NAMES = frozenset({"file", "file_name", "filename", "filepath", "path"})
SYNONYMS: tuple[frozenset[str], ...] = (
    frozenset({
        "text", "caption", "captions", "description", "label", "sentence", "transcript",
        "transcription", "txt", "words",
    }),
    frozenset({"speaker", "client_id", "speaker_id", "spk"}),
    frozenset({"language", "lang", "locale"}),
    frozenset({"duration_s", "duration", "length"}),
    frozenset({"start", "begin", "offset", "start_time", "begin_time"}),
    frozenset({"end", "stop", "end_time"}),
    frozenset({"id", "key", "name", "uid", "utt_id", "utterance_id"}),
    frozenset({"split", "subset", "partition"}),
    frozenset({"consent", "consent_purpose", "consent_purposes"}),
    frozenset({"licence", "license"}),
)  # fmt: skip


class Row(BaseModel):
    """One item of a dataset; each modality adds its own fields (`SpeechRow`, `ImageRow`).

    `media` names the field that holds the path of the item's file; empty for rows that are whole
    in themselves. Paths in a manifest are relative to the manifest's folder; `Dataset` rows hold
    absolute ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    media: ClassVar[str] = ""
    # Suffixes of the files that may be an item's, in small letters.
    suffixes: ClassVar[tuple[str, ...]] = ()
    # Other fields that may hold a path; their files' hashes are part of `content`.
    beside: ClassVar[tuple[str, ...]] = ()
    # Fields that count for the dataset's fingerprint only where they are set, because earlier
    # versions didn't have them.
    optional: ClassVar[tuple[str, ...]] = ("subject",)
    # Fields that say who may do what with the row: nothing that is computed depends on them.
    rights: ClassVar[tuple[str, ...]] = ("consent", "licence", "source")
    # Whether a row with another row's file counts as bad; if not, it is only left out.
    copies_are_bad: ClassVar[bool] = True
    # The field that is `reference`, and others that hold words of people: `redact` rewrites them.
    text_field: ClassVar[str] = ""
    other_texts: ClassVar[tuple[str, ...]] = ()
    # Whether the item's file says the text aloud.
    says_text: ClassVar[bool] = False
    # Names of fields in other tools: each set holds one field's name and its synonyms.
    synonyms: ClassVar[tuple[frozenset[str], ...]] = SYNONYMS

    id: Annotated[str, Field(min_length=1)]
    split: Split | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    group: dict[str, str] = Field(default_factory=dict)
    # Who or what the row is about; where it is a person, by a number or a name that the team chose.
    subject: Annotated[str, Field(min_length=1)] | None = None
    consent: Consent | None = None
    licence: LicenceName | None = None
    # Where the row comes from: a corpus, an address, an artist, a contract. Attributions name it.
    source: Annotated[str, Field(min_length=1)] | None = None
    # Hash of the item's file, set by `check`; cache keys and the dataset's fingerprint use it.
    content: str = ""

    @property
    def path(self) -> Path:
        """The path of the item's file.

        Raises:
            AttributeError: rows of this class have no file.
        """
        if not self.media:
            raise AttributeError(f"a {type(self).__name__} has no file")
        return Path(str(getattr(self, self.media)))

    @property
    def files(self) -> dict[str, str]:
        """The fields that hold a path, `media` first, as far as they are set."""
        named = (self.media, *self.beside) if self.media else self.beside
        found = {name: getattr(self, name) for name in named}
        return {name: str(value) for name, value in found.items() if value is not None}

    def own_fields(self) -> dict[str, object]:
        """The values of the fields that its type adds to `Row`, as JSON."""
        kinds = (each for each in type(self).__mro__ if issubclass(each, Row) and each is not Row)
        own = {name for kind in kinds for name in inspect.get_annotations(kind)}
        return self.model_dump(mode="json", exclude=(set(Row.model_fields) - own) | self.unhashed)

    @property
    def unhashed(self) -> set[str]:
        """The fields that hashes of the row leave out: `rights`, and `optional` ones not set."""
        return {*self.rights, *(name for name in self.optional if not getattr(self, name))}

    @property
    @abstractmethod
    def reference(self) -> str:
        """The item's text: its transcript or caption."""

    def with_texts(
        self, changes: Sequence[tuple[int, int, str]], other: Callable[[str], str]
    ) -> dict[str, object]:
        """The row's fields as JSON, with other words in its texts.

        Args:
            changes: places in `reference` in order, from and up to, each with what replaces it.
            other: gives a further text with other words.
        """
        values: dict[str, object] = self.model_dump(mode="json", exclude_defaults=True)
        if self.text_field:
            values[self.text_field] = changed_text(self.reference, changes)
        for name in self.other_texts:
            held = values.get(name)
            if isinstance(held, str):
                values[name] = other(held)
            elif isinstance(held, list):
                values[name] = [other(each) for each in held]
        return values

    @property
    def leakage_keys(self) -> tuple[str, ...]:
        """Keys that bind rows to one split if they share one: a speaker, a sentence, a subject.

        The first word of a key is its kind, which `data.shared` names.
        """
        return ()


def changed_text(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """Replace places of a text, given in order and without overlaps."""
    parts, place = [], 0
    for start, end, words in changes:
        parts += [text[place:start], words]
        place = end
    return "".join([*parts, text[place:]])


Severity = Literal["error", "warning", "note"]
# Kinds of findings for which training refuses to start, however many rows are good.
STOPPING = ("unreadable-metadata",)


@dataclass(frozen=True)
class Finding:
    """What `check` found. An error leaves its row out; a warning or a note keeps it.

    Warnings of the kinds "leakage", "trained" and "duplicate-content", and those of the policy,
    leave rows out, too, but such rows don't count as bad (`Dataset.withheld`). A note needs no
    action: it says what is skipped by rule, or isn't part of the data.
    """

    kind: str  # a short stable name: "missing", "truncated", "duplicate-content" …
    row: str  # the row's id, or "line 12" if it has none
    message: str  # the problem, with the value that was found
    cure: str
    severity: Severity = "error"
    other: str = ""  # id of a nearly identical row; both rows go to the same split
    file: str = ""  # the file that it is about: the row's manifest, or a file that isn't used
    line: int | None = None  # the line of the file, counted from 1


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting one item's file.

    `check` shows the `facts`. Only the modality's own `check_rows` reads the `marks`.
    """

    content: str  # hash of everything that training reads from the item's file
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)  # duration_s, width, height …
    marks: bytes = b""
    # SHA-256 of whole files, as they were inspected, by the row's field; a version takes them over.
    hashes: dict[str, str] = field(default_factory=dict)
