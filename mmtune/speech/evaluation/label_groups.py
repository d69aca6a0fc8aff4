"""Group rows by their labels (accent, gender …) and by the labels' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmtune.speech.speech_row import SOURCE

NOT_GROUPS = ("synthesizer", "mix", "from", SOURCE)  # labels of how a row was made
MAX_VALUES = 8  # a label with more values is an identity, or a number that needs bands
BAND = 10  # width of a band of numbers


def group_by_labels(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, list[int]]]:
    """Find the groups of rows that have the same value of a label.

    Numbers with many values, such as ages, are grouped into bands of ten.

    Args:
        rows: the labels of each row, with their values.

    Returns:
        For each label that divides the rows, the places of the rows of each value.
    """
    labels = sorted({label for row in rows for label in row} - set(NOT_GROUPS))
    found: dict[str, dict[str, list[int]]] = {}
    for label in labels:
        values = [row.get(label, "") for row in rows]
        if len(set(values) - {""}) > MAX_VALUES:
            values = [_band(value) for value in values]
        distinct = sorted(set(values) - {""})
        if 1 < len(distinct) <= MAX_VALUES:
            found[label] = {
                value: [place for place, own in enumerate(values) if own == value]
                for value in distinct
            }
    return found


def _band(value: str) -> str:
    try:
        low = int(float(value) // BAND * BAND)
    except (ValueError, OverflowError):
        return value
    return f"{low}-{low + BAND - 1}"
