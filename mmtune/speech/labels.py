"""What the decoder reads and what it should say: explicit ids, shifted by hand, masked by length.

transformers' `labels=` would put a second start token before ours, and would mask by the pad id,
which in English-only models is the end token that the decoder has to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtune.data.rows import Row
from mmtune.errors import DataError
from mmtune.speech.base import WhisperBase


@dataclass(frozen=True)
class Labels:
    """One row's ids.

    Attributes:
        ids: [sot-prev, prompt,] sot, [lang, task,] notimestamps, text, eot.
        given: how many of them are given, not predicted: all before the text.
        terms: places in `ids` of what writes a term.
    """

    ids: tuple[int, ...]
    given: int
    terms: tuple[int, ...] = ()


def prefix_ids(base: WhisperBase, language: str | None, prompt: str | None = None) -> list[int]:
    """What the decoder is given before it speaks.

    Args:
        base: whose vocabulary.
        language: needed by multilingual bases, ignored by English-only ones.
        prompt: earlier text or a list of words; its last tokens are kept where it is too long
            (223, as in Whisper's own `decoding.py`).
    """
    ids: list[int] = []
    if prompt and prompt.strip():
        room = base.model.config.max_target_positions // 2 - 1
        words = base.tokenizer.encode(" " + prompt.strip(), add_special_tokens=False)
        ids += [base.ids["startofprev"], *words[-room:]]
    ids.append(base.ids["startoftranscript"])
    if base.multilingual:
        if language is None:
            raise ValueError("a multilingual Whisper needs a language")
        ids += [base.language_id(language), base.ids["transcribe"]]
    ids.append(base.ids["notimestamps"])
    return ids


def make_labels(
    base: WhisperBase, row: Row, language: str | None, spans: Sequence[tuple[int, int]] = ()
) -> Labels:
    """The labels of a row.

    Args:
        language: of the run, where the row names none.
        spans: (first, after the last) character of each term in the row's text.

    Raises:
        DataError: the text has more tokens than the decoder has positions.
    """
    prefix = prefix_ids(
        base, getattr(row, "language", None) or language, getattr(row, "prompt", None)
    )
    written = " " + row.reference.strip()
    coded = base.tokenizer(written, add_special_tokens=False, return_offsets_mapping=True)
    text = coded.input_ids
    shift = 1 - (len(row.reference) - len(row.reference.lstrip()))
    terms = tuple(
        len(prefix) + place
        for place, (start, end) in enumerate(coded.offset_mapping)
        if any(start < last + shift and first + shift < end for first, last in spans)
    )
    ids = (*prefix, *text, base.ids["endoftext"])
    # The last id is only ever a target, so it takes no position.
    most = base.model.config.max_target_positions
    if len(ids) - 1 > most:
        raise DataError(
            f"row {row.id!r}: its text and prompt have {len(ids) - 1} tokens; {base.name} has room "
            f"for {most}",
            "cut the recording into shorter utterances, or shorten its prompt",
        )
    return Labels(ids, len(prefix), terms)


def pad_labels(labels: Sequence[Labels], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and mask of a batch.

    Args:
        pad: any id: padded positions are masked by length.

    Returns:
        inputs, targets: [rows, length - 1]; mask: the same, True where a target counts.
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
    return inputs, targets, mask
