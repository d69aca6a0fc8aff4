"""Refused images: the share that a filter of content refuses."""

from __future__ import annotations

from mmtune.metrics.metric import Quantity

REFUSED = Quantity(
    "refused images",
    "share of images",
    "The share of the images that the content filter refuses, as something that nobody should see.",
    higher_is_better=False,
)
