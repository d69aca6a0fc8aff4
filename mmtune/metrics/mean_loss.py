"""The loss of the expected answers, for predictors that give it beside their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction


class MeanLoss:
    """The loss per unit of the objective (a token, a latent's element). Statistic: (loss, units).

    Predictions have both in their details: "loss", summed over the item, and "units".
    """

    name = "loss"
    unit = "loss per unit of the objective"
    meaning = "The loss, which training lowers."
    higher_is_better = False

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(loss, units) of one item."""
        return np.array([float(prediction.details["loss"]), float(prediction.details["units"])])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Summed losses over summed units; None without units."""
        loss, units = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(loss / units) if units else None
