"""All figures by name, and those that third parties add to comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from mmtune.errors import ConfigError
from mmtune.metrics.metric import Metric, Quantity
from mmtune.system.plugins import Registry

# Where each figure is defined: a class of metrics, a metric, or a quantity.
METRICS: Registry[type[Metric] | Metric | Quantity] = Registry(
    "metric",
    "mmtune.metrics",
    {
        "loss": "mmtune.metrics.mean_loss:MeanLoss",
        "WER": "mmtune.metrics.text.wer:WordErrors",
        "CER": "mmtune.metrics.text.wer:CharacterErrors",
        "repeating rows": "mmtune.metrics.text.repeats:Repeats",
        "formatted WER": "mmtune.metrics.text.formatted:FormattedWordErrors",
        "term recall": "mmtune.metrics.text.term_recall:TermRecall",
        "term precision": "mmtune.metrics.text.term_recall:TermPrecision",
        "false insertions": "mmtune.metrics.text.term_recall:FalseInsertions",
        "hurtful words": "mmtune.metrics.text.term_recall:HurtfulWords",
        "critical errors": "mmtune.metrics.text.critical_errors:CRITICAL",
        "number errors": "mmtune.metrics.text.critical_errors:NUMBER",
        "dose errors": "mmtune.metrics.text.critical_errors:DOSE",
        "negation errors": "mmtune.metrics.text.critical_errors:NEGATION",
        "side errors": "mmtune.metrics.text.critical_errors:SIDE",
        "name errors": "mmtune.metrics.text.critical_errors:NAME",
        "cpWER": "mmtune.metrics.text.speaker_errors:SpeakerWordErrors",
        "number recall": "mmtune.metrics.text.number_recall:NUMBERS",
        "long number recall": "mmtune.metrics.text.number_recall:LONG_NUMBERS",
        "hallucinated words/min": "mmtune.metrics.text.hallucination:HallucinatedWords",
        "language accuracy": "mmtune.metrics.text.language:LanguageAccuracy",
        "AUROC of errors": "mmtune.metrics.text.calibration:ErrorRanking",
        "calibration error": "mmtune.metrics.text.calibration:CalibrationError",
        "Brier score": "mmtune.metrics.text.calibration:BrierScore",
        "start error, median s": "mmtune.metrics.text.drift:MEDIAN_START",
        "start error, 95th percentile s": "mmtune.metrics.text.drift:LATE_START",
        "drift, s/min": "mmtune.metrics.text.drift:Drift",
        "style": "mmtune.metrics.image.style:STYLE_QUANTITY",
        "style distance": "mmtune.metrics.image.style:StyleDistance",
        "nearest training image": "mmtune.metrics.image.nearest:NearestTraining",
        "copies": "mmtune.metrics.image.memorization:COPIES",
        "refused images": "mmtune.metrics.image.refused:REFUSED",
        "palette": "mmtune.metrics.image.palette:PaletteShare",
        "off-palette images": "mmtune.metrics.image.off_palette:OFF_PALETTE",
        "wrong grounds": "mmtune.metrics.image.ground:WRONG_GROUND",
        "forbidden things": "mmtune.metrics.image.forbidden_things:FORBIDDEN_THINGS",
        "diversity": "mmtune.metrics.image.diversity:DIVERSITY",
        "KID": "mmtune.metrics.image.mmd:KID",
        "CMMD": "mmtune.metrics.image.mmd:CMMD",
        "content": "mmtune.metrics.image.content_score:CONTENT",
        "CLIP score": "mmtune.metrics.image.clip_score:CLIP_SCORE",
        "prompt match": "mmtune.metrics.image.clip_score:PROMPT_MATCH",
    },
)


def name_key(name: str) -> str:
    """What names of one figure have in common: a log writes `style_distance`, entry points may not
    hold spaces."""
    return name.replace("_", " ").casefold()


def registered(name: str) -> str | None:
    """The name under which a figure is registered; None for one that isn't."""
    return next((each for each in METRICS if name_key(each) == name_key(name)), None)


def make_metric(name: str) -> Metric:
    """A registered metric with its default arguments.

    Raises:
        ConfigError: there is none of that name, or it takes more than answers to compute.
        PluginError: the package that adds it can't be used.
    """
    found = METRICS.find(registered(name) or name)
    if isinstance(found, Quantity):
        raise ConfigError(f"{name!r} can't be computed from answers alone", "name another metric")
    metric = found() if isinstance(found, type) else found
    for needed in ("name", "unit", "meaning", "higher_is_better"):
        if getattr(metric, needed, "") == "":
            raise ConfigError(
                f"the metric {name!r} ({type(metric).__module__}) has no {needed}",
                "define it in the metric's class",
            )
    return metric


def added_metrics(modality: str) -> Iterator[Metric]:
    """The metrics that third parties add to every comparison of a modality.

    One that can't be used is left out with a warning: it must not cost the other figures.
    """
    for name, found in METRICS.usable(third_party=True):
        if modality in getattr(found, "modalities", ()):
            try:
                yield make_metric(name)
            except ConfigError as error:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
