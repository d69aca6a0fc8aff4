"""Make the decoder's inputs and targets: explicit ids, shifted here and masked by length.

transformers' `labels=` would add a second start token, and would mask by the pad id. In
English-only models that id is the end token, which the decoder has to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtune.errors import DataError
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.base import WhisperBase

TIME_STEP = 0.02  # seconds from one timestamp token to the next

Times = Sequence[tuple[float, float, str]]  # (start, end, text) in seconds of the window


@dataclass(frozen=True)
class Labels:
    """The ids of one row.

    Attributes:
        ids: [sot-prev, prompt,] sot, [lang, task,] notimestamps, text, eot. With times there is no
            notimestamps, and each segment's text stands between two timestamps.
        given: number of ids before the text; they are given and not predicted.
        terms: positions in `ids` of tokens that write a term.
        times: positions in `ids` of timestamps.
        start: position of the start token and the id to predict there, if that is trained. At the
            start token Whisper predicts whether somebody speaks, and in which language.
        silent: whether nobody speaks.
    """

    ids: tuple[int, ...]
    given: int
    terms: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    start: tuple[int, int] | None = None
    silent: bool = False

    @property
    def spoken(self) -> int:
        """The number of predicted ids, with the end token."""
        return len(self.ids) - self.given


def prefix_ids(
    base: WhisperBase,
    language: str | None,
    prompt: str | None = None,
    *,
    task: str = "transcribe",
    timestamps: bool = False,
    room: int | None = None,
) -> list[int]:
    """Make the ids that the decoder gets before the text.

    Args:
        base: the model whose vocabulary is used.
        language: Whisper's code; multilingual bases need it, English-only bases ignore it.
        prompt: earlier text or a list of words; of a long prompt the last tokens are kept (223, as
            in openai/whisper's `decoding.py`).
        task: "transcribe" or "translate" (into English); English-only bases ignore it.
        timestamps: whether the decoder shall write times.
        room: limit for the number of the prompt's tokens, if it is lower.
    """
    ids: list[int] = []
    most = base.model.config.max_target_positions // 2 - 1
    most = most if room is None else min(most, room)
    if prompt and prompt.strip() and most > 0:
        words = base.tokenizer.encode(" " + prompt.strip(), add_special_tokens=False)
        ids += [base.ids["startofprev"], *words[-most:]]
    ids.append(base.ids["startoftranscript"])
    if base.multilingual:
        if language is None:
            raise ValueError("a multilingual Whisper needs a language")
        ids += [base.language_id(language), base.ids[task]]
    if not timestamps:
        ids.append(base.ids["notimestamps"])
    return ids


def time_id(base: WhisperBase, seconds: float) -> int:
    """Return the timestamp token nearest to a time in the window, 0 to 30 s."""
    steps = round(min(max(seconds, 0.0), 30.0) / TIME_STEP)
    return base.ids["notimestamps"] + 1 + steps


def make_labels(
    base: WhisperBase,
    row: SpeechRow,
    language: str | None,
    spans: Sequence[tuple[int, int]] = (),
    times: Times = (),
    start: bool = False,
) -> Labels:
    """Make the labels of a row.

    Args:
        base: the model whose vocabulary is used.
        row: with its text, prompt and task.
        language: Whisper's code, for rows that name none.
        spans: (first, after the last) character of each term in the row's text.
        times: segments whose texts, joined by spaces, are the row's text; empty for labels without
            timestamps. A segment without words (no speech) writes only its start.
        start: whether the id after the start token is predicted too; rows without speech always
            predict it.

    Raises:
        DataError: the text has more tokens than the decoder has positions.
    """
    code = row.language or language
    text, terms, marks = _written(base, row.reference, spans, times)
    text.append(base.ids["endoftext"])
    timed = bool(times)
    # The last id is only a target, so it takes no position.
    most = base.model.config.max_target_positions
    bare = len(prefix_ids(base, code, timestamps=timed))
    if bare + len(text) - 1 > most:
        raise DataError(
            f"row {row.id!r}: its text has {bare + len(text) - 1} tokens; {base.name} reads at "
            f"most {most}",
            "cut the recording into shorter utterances",
        )
    # The 448 positions include the prompt, so a long prompt is shortened.
    room = most - bare - len(text)
    prefix = prefix_ids(base, code, row.prompt, task=row.task, timestamps=timed, room=room)
    given, ids = len(prefix), (*prefix, *text)
    at = prefix.index(base.ids["startoftranscript"])
    # <|nospeech|>, or <|nocaptions|>, stands before <|notimestamps|> in OpenAI's vocabularies.
    first = base.ids["notimestamps"] - 1 if row.nonspeech else ids[at + 1]
    start = start and at + 1 < given  # otherwise it is the text's first id
    return Labels(
        ids,
        given,
        tuple(given + place for place in terms),
        tuple(given + place for place in marks),
        (at, first) if row.nonspeech or start else None,
        row.nonspeech,
    )


def _written(
    base: WhisperBase, text: str, spans: Sequence[tuple[int, int]], times: Times
) -> tuple[list[int], list[int], list[int]]:
    # Returns the ids of the text, and the positions in them of terms and of timestamps.
    ids: list[int] = []
    terms: list[int] = []
    marks: list[int] = []
    at = len(text) - len(text.lstrip())  # where the segment begins in the row's text
    for start, end, words in times or [(0.0, 0.0, text.strip())]:
        if times:
            marks.append(len(ids))
            ids.append(time_id(base, start))
        if not words:
            continue
        coded = base.tokenizer(" " + words, add_special_tokens=False, return_offsets_mapping=True)
        for token, (first, last) in zip(coded.input_ids, coded.offset_mapping, strict=True):
            if any(first + at - 1 < b and a < last + at - 1 for a, b in spans):
                terms.append(len(ids))
            ids.append(token)
        at += len(words) + 1
        if times:
            marks.append(len(ids))
            ids.append(time_id(base, end))
    return ids, terms, marks


def pad_labels(labels: Sequence[Labels], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pad labels to the longest row: inputs, targets and mask of a batch.

    Args:
        labels: of the rows.
        pad: any id, because padded positions are masked by length.

    Returns:
        inputs and targets [rows, length - 1]; mask of that shape, True if the target counts.
    """
    length = max(len(each.ids) for each in labels) - 1
    inputs = torch.full((len(labels), length), pad)
    targets = torch.full((len(labels), length), pad)
    mask = torch.zeros((len(labels), length), dtype=torch.bool)
    for i, each in enumerate(labels):
        n = len(each.ids) - 1
        inputs[i, :n] = torch.tensor(each.ids[:-1])
        targets[i, :n] = torch.tensor(each.ids[1:])
        mask[i, each.given - 1 : n] = True
        if each.start is not None:
            place, target = each.start
            targets[i, place], mask[i, place] = target, True
    return inputs, targets, mask
