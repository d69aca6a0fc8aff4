"""Redact the texts of rows: conversations as a whole, and quarantine for what can't be handled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError

from mmtune.data.rows import Row
from mmtune.privacy.finder import PrivateWordFinder
from mmtune.privacy.private_span import KINDS, PrivateSpan, replace_spans
from mmtune.privacy.spoken_words import LANGUAGES

RECORDING = "recording"  # label of the recording that a row was cut from
# Reasons for which a row is left out, each with its cure.
UNREAD_LANGUAGE = "language"
PRIVATE_IDENTIFIER = "identifier"
UNFIT = "unfit"
UNREADABLE = "unreadable"
CURES = {
    UNREAD_LANGUAGE: f"private words are found in {', '.join(LANGUAGES)} only; redact the others "
    "by other means",
    PRIVATE_IDENTIFIER: "an id, file name, speaker or label holds a private word; rename it",
    UNFIT: "the redacted text isn't a valid row, such as one that is too long; shorten it",
    UNREADABLE: "no valid row; see mmtune check",
}


@dataclass(frozen=True)
class RedactedRows:
    """The outcome of redacting rows.

    Attributes:
        rows: each row that is kept, with its redacted fields as JSON.
        counts: private words that were replaced, by kind.
        changed: number of rows with at least one.
        words: number of words that were searched.
        left_out: ids of the rows that couldn't be handled, by reason.
    """

    rows: tuple[tuple[Row, dict[str, Any]], ...]
    counts: dict[str, int]
    changed: int
    words: int
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)


def redact_rows(
    rows: Sequence[Row],
    finder: PrivateWordFinder,
    identifiers: PrivateWordFinder,
    *,
    with_files: bool = True,
) -> RedactedRows:
    """Redact the texts of rows.

    The rows of one recording are searched as one conversation, in the order of their times.

    Args:
        rows: of a manifest.
        finder: finds the private words of texts.
        identifiers: finds those of ids, file names, speakers and labels. A row is left out for
            names, e-mail addresses, IBANs and international phone numbers in them.
        with_files: whether paths are written, and so are searched.
    """
    left_out: dict[str, list[str]] = {}

    @cache
    def is_private(text: str) -> bool:
        return any(
            span.kind in ("name", "email", "iban")
            or (span.kind == "phone" and text[span.start] == "+")
            for span in identifiers.find(text)
        )

    good = []
    for row in rows:
        if _language(row) not in (None, *LANGUAGES):
            left_out.setdefault(UNREAD_LANGUAGE, []).append(row.id)
        elif any(map(is_private, _identifiers(row, with_files))):
            left_out.setdefault(PRIVATE_IDENTIFIER, []).append(row.id)
        else:
            good.append(row)
    counts: Counter[str] = Counter()
    spans: dict[str, list[PrivateSpan]] = {}
    for conversation in _conversations(good):
        languages = {_language(row) for row in conversation}
        language = languages.pop() if len(languages) == 1 else None
        found = finder.find_in_turns([row.reference for row in conversation], language)
        spans.update(zip((row.id for row in conversation), found, strict=True))
    kept, changed, words = [], 0, 0
    for row in good:
        own = Counter(span.kind for span in spans[row.id])

        def redacted(text: str, row: Row = row, own: Counter[str] = own) -> str:
            found = finder.find(text, _language(row))
            own.update(span.kind for span in found)
            return replace_spans(text, found)

        changes = [(span.start, span.end, span.replacement) for span in spans[row.id]]
        values = row.with_texts(changes, redacted)
        try:
            type(row).model_validate(values)
        except ValidationError:
            left_out.setdefault(UNFIT, []).append(row.id)
            continue
        kept.append((row, values))
        words += len(row.reference.split())
        counts += own
        changed += bool(own)
    return RedactedRows(
        rows=tuple(kept),
        counts={kind: counts[kind] for kind in KINDS if counts[kind]},
        changed=changed,
        words=words,
        left_out={reason: tuple(ids) for reason, ids in left_out.items()},
    )


def _language(row: Row) -> str | None:
    """The code of a row's language; None if it names none."""
    found = getattr(row, "language", None)
    return found if isinstance(found, str) else None


def _identifiers(row: Row, with_files: bool) -> Iterator[str]:
    """All texts of a row that aren't words of people: ids, paths, speakers, labels."""
    texts = {row.text_field, *row.other_texts, "segments", *(() if with_files else row.files)}
    for name, value in row.model_dump(mode="json", exclude_defaults=True).items():
        if name not in texts:
            yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (str(key), *_strings(each))
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _conversations(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of each recording in the order of their times; other rows each alone."""
    together: dict[str, list[Row]] = {}
    for row in rows:
        whole = row.group.get(RECORDING) or (str(row.path) if row.says_text else f"row {row.id}")
        together.setdefault(whole, []).append(row)
    for conversation in together.values():
        yield sorted(conversation, key=lambda row: float(getattr(row, "start", 0.0)))
