"""Each metric in words for readers who don't know it, and the unit of its axis."""

from __future__ import annotations

from typing import NamedTuple


class Explained(NamedTuple):
    """What a figure counts, and in what."""

    unit: str
    meaning: str


EXPLAINED = {
    "WER": Explained(
        "WER, wrong words per word spoken",
        "Words that are written wrongly, left out or made up, per word that was spoken.",
    ),
    "CER": Explained(
        "CER, wrong characters per character",
        "Characters that are wrong, left out or made up, per character of the true text.",
    ),
    "formatted WER": Explained(
        "formatted WER, per word spoken", "Wrong words, where case and punctuation count too."
    ),
    "WER gap": Explained(
        "WER, between two groups",
        "How much worse the group that is served worst has it than the one served best.",
    ),
    "term recall": Explained(
        "share of spoken terms", "Of the terms that were spoken, the share that was written right."
    ),
    "term precision": Explained(
        "share of written terms", "Of the terms that were written, the share that was spoken."
    ),
    "language accuracy": Explained(
        "share of recordings", "Recordings whose language is recognized before it is told."
    ),
    "AUROC of errors": Explained(
        "AUROC, 0.5 is chance", "How often a wrong word has less confidence than a right one."
    ),
    "calibration error": Explained(
        "share of words", "How far the confidence of words is from how often they are right."
    ),
    "Brier score": Explained(
        "squared distance", "How far each word's confidence is from right or wrong, squared."
    ),
    "start error, median s": Explained(
        "seconds", "How far a sentence's time in a long recording is from where it is, as a rule."
    ),
    "start error, 95th percentile s": Explained(
        "seconds", "How far a sentence's time in a long recording is from where it is, at worst."
    ),
    "drift, s/min": Explained(
        "seconds a minute", "By how much times of a long recording wander off as it goes on."
    ),
    "prompt match": Explained(
        "prompt match (0 to 100)",
        "How well image and caption fit, as a small home-trained net sees.",
    ),
    "false insertions": Explained(
        "per utterance", "Terms that were written and that nobody had said."
    ),
    "critical errors": Explained(
        "per utterance",
        "Numbers, doses, negations, sides and names that are wrong, missing or made up.",
    ),
    **{
        f"{kind} errors": Explained("per utterance", f"{what} that are wrong, missing or made up.")
        for kind, what in {
            "number": "Numbers",
            "dose": "Doses, a number with its unit,",
            "negation": "Negations",
            "side": "Sides, left and right,",
            "name": "Names, words that the reference capitalises,",
        }.items()
    },
    "hallucinated words/min": Explained(
        "words a minute", "Words that were written where nobody spoke."
    ),
    "style": Explained(
        "style (0 = base, 1 = brand)",
        "How far the look is on the way from the base's to the brand's own new images.",
    ),
    "style distance": Explained(
        "style distance to the brand", "How far the look is from the brand's; 0 is the same."
    ),
    "nearest training image": Explained(
        "correlation with the nearest training image",
        "How like the most similar training image what is drawn is; 1 is a copy.",
    ),
    "copies": Explained(
        "share of images", "Images that repeat a training image more closely than new ones would."
    ),
    "palette": Explained("share of pixels", "Pixels that have a colour of the brand."),
    "diversity": Explained(
        "mean distance of two seeds", "How much images of one caption differ from one another."
    ),
    "KID": Explained("KID", "How far the whole set is from the training images."),
    "CMMD": Explained("CMMD", "How far the whole set is from the training images, as CLIP sees."),
    "CLIP score": Explained(
        "CLIP score (0 to 100)", "How well image and caption fit, as CLIP sees."
    ),
    "loss": Explained("loss per unit of the objective", "What training lowers."),
}


_KEYS = {name.casefold(): found for name, found in EXPLAINED.items()}


def _find(metric: str) -> Explained | None:
    # Validation writes names as a log's keys: wer, style_distance.
    return _KEYS.get(metric.replace("_", " ").casefold())


def explain(metric: str) -> str:
    """What a metric counts, in a sentence; empty for one that isn't known here."""
    found = _find(metric)
    return found.meaning if found else ""


def unit_of(metric: str) -> str:
    """The label of a metric's axis: its unit, else its name."""
    found = _find(metric)
    return found.unit if found else metric
