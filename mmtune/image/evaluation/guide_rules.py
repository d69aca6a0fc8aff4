"""Whether images of base and adapter keep the rules of a brand's guide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.data.rule_result import Breach, Judgement, Outcome, RuleResult, not_measurable
from mmtune.errors import DataError
from mmtune.evaluation.shown_guide import Guide, GuidePart
from mmtune.image.brand.brand_guide import TRANSPARENT, BrandGuide, read_guide
from mmtune.image.brand.picture_rules import picture_rules
from mmtune.image.brand.rules_of_data import DATA, THINGS, judge_data
from mmtune.image.evaluation.compared_images import HELD_OUT_CAPTIONS, ComparedImages
from mmtune.image.image_options import ImageOptions
from mmtune.image.looks.embedding import Embed, Scorer
from mmtune.image.pictures.encode import save_picture
from mmtune.image.pictures.pixels import open_image
from mmtune.metrics.bootstrap import Interval, paired_bootstrap, wider
from mmtune.metrics.image.events import event_share, events_by_prompt, share_interval, share_reach
from mmtune.metrics.image.forbidden_things import FORBIDDEN_THINGS, mistaken, things_seen
from mmtune.metrics.image.reduced import reduce_picture
from mmtune.metrics.measure import Measure
from mmtune.metrics.metric import Quantity, Stat
from mmtune.metrics.rare import rare_difference
from mmtune.system.files import unique_name

MAX_BREACHES = 12  # images that break a rule and are named in the report
REFERENCE_FOLDER = (
    "guide"  # folder in the run folder: small copies of the guide's reference pictures
)
SIDE = 320  # pixels along the longer side of such a copy
UNSEEN = "a thing that is small in the picture goes unseen: look at the pictures"
Texts = Sequence[str]  # how each image breaks a rule; empty for an image that keeps it


def with_guide(options: ImageOptions) -> ImageOptions:
    """The settings with the palette of the brand's guide, where they name a guide and no palette.

    Raises:
        ConfigError: the guide can't be read.
    """
    if options.brand_guide is None or options.palette:
        return options
    guide = read_guide(options.brand_guide)
    grounds = guide.ground_colours(options.background) if guide.palette else {}
    colours = dict.fromkeys([*guide.palette.values(), *grounds.values()])
    return options.model_copy(update={"palette": tuple(colours)})


@dataclass(frozen=True)
class JudgedBy:
    """The model that judges captions.

    Attributes:
        content: the measure of content, which isn't defined where the model may not judge.
        scorer: the model; None: there is none.
        embed: its image encoder.
    """

    content: Measure
    scorer: Scorer | None
    embed: Embed | None


def judge_guide(
    options: ImageOptions,
    folder: Path,
    rows: Sequence[Row],
    compared: ComparedImages,
    judge: JudgedBy,
) -> tuple[Guide, list[Measure]] | None:
    """Judge the data, the base's images and the adapter's by the rules of a brand's guide.

    Args:
        options: the settings; they name the guide.
        folder: the run folder; small copies of the guide's reference pictures go there.
        rows: the data's usable rows.
        compared: images of base and adapter.
        judge: the model that judges captions.

    Returns:
        The guide with the outcome of each rule, and for each rule that images were judged by the
        share of images that break it; None without a guide.

    Raises:
        ConfigError: the guide can't be read.
    """
    if options.brand_guide is None:
        return None
    guide = read_guide(options.brand_guide)
    results = judge_data(guide, rows, options.trigger, options.background)
    by_name = {result.name: result for result in results}
    measures = []
    sets = {"base": compared.base, "adapter": compared.adapter}
    for rule in picture_rules(guide, options.background, drawn=True):
        texts = {
            model: [rule.breach(reduce_picture(image)) for image in images]
            for model, images in sets.items()
        }
        own, measure = _judged(rule.quantity, compared, texts)
        by_name[rule.name].judged.update(own)
        measures.append(measure)
    if guide.forbidden_things:
        found, unknown, reason = _things(guide, compared, sets, judge)
        judged = by_name[THINGS].judged
        judged.pop(DATA, None)
        if found:
            own, measure = _judged(FORBIDDEN_THINGS, compared, found, reason)
            judged |= own
            measures.append(measure)
        for model in sets:
            if unknown and (model not in judged or judged[model].outcome == "kept"):
                judged[model] = not_measurable(reason)
    return _shown(guide, options.background, folder, results), measures


def _things(
    guide: BrandGuide,
    compared: ComparedImages,
    sets: Mapping[str, Sequence[Image]],
    judge: JudgedBy,
) -> tuple[dict[str, Texts], bool, str]:
    """How each image of each model shows a forbidden thing; empty if no thing can be judged.

    Returns:
        Also whether a thing can't be judged, and what the judgement doesn't cover.
    """
    scorer, embed = judge.scorer, judge.embed
    if scorer is None or embed is None or math.isnan(judge.content.adapter.value):
        return {}, True, judge.content.note
    captions = list(dict.fromkeys(row.reference for row in compared.rows))
    known, things = scorer.texts(captions), list(guide.forbidden_things)
    wrong = mistaken(things_seen(embed(compared.real), known, scorer.texts(things)), things)
    told = [
        f"{scorer.metric} takes {count} of {len(compared.real)} own images for {thing!r}"
        for thing, count in wrong.items()
    ]
    judged = [thing for thing in things if thing not in wrong]
    if not judged:
        return {}, True, "; ".join(told)
    vectors = scorer.texts(judged)
    found: dict[str, Texts] = {}
    for model, images in sets.items():
        seen = things_seen(embed(images), known, vectors)
        named = [[judged[i] for i, one in enumerate(row) if one] for row in seen]
        found[model] = [
            f"it fits {', '.join(map(repr, each))} better than any caption" if each else ""
            for each in named
        ]
    return found, bool(wrong), "; ".join([*told, f"judged by {scorer.metric}: {UNSEEN}"])


def _judged(
    quantity: Quantity, compared: ComparedImages, texts: Mapping[str, Texts], reason: str = ""
) -> tuple[dict[str, Judgement], Measure]:
    """The judgement of each model by one rule, and the share of images that break it."""
    stats = {
        model: events_by_prompt([bool(text) for text in own], compared.seeds)
        for model, own in texts.items()
    }
    shares = {model: share_interval(own) for model, own in stats.items()}
    found = {}
    for model, own in texts.items():
        breaches = [
            Breach(f"{row.reference} #{place % compared.seeds}", text)
            for place, (row, text) in enumerate(zip(compared.rows, own, strict=True))
            if text
        ]
        share = shares[model]
        outcome: Outcome = "broken" if breaches else "kept"
        named = tuple(breaches[:MAX_BREACHES])
        counts = (len(own), len(breaches))
        found[model] = Judgement(outcome, *counts, share.low, share.high, reason, named)
    broken = {model: (float(sum(map(bool, own))), float(len(own))) for model, own in texts.items()}
    return found, _measure(quantity, stats, shares, broken)


def _measure(
    quantity: Quantity,
    stats: Mapping[str, Sequence[Stat]],
    shares: Mapping[str, Interval],
    counts: dict[str, tuple[float, float]],
) -> Measure:
    _, _, difference = paired_bootstrap(stats["base"], stats["adapter"], event_share)
    rare = rare_difference(stats["base"], stats["adapter"])
    if rare is None:  # no prompt differs, of few or of many: the interval says of how many
        reach = share_reach(stats["base"])
        rare = Interval(0.0, -reach, reach)
    return Measure(
        metric=quantity.name,
        slice=HELD_OUT_CAPTIONS,
        items=len(stats["base"]),
        base=shares["base"],
        adapter=shares["adapter"],
        difference=wider(difference, rare),
        higher_is_better=quantity.higher_is_better,
        note="by the brand guide",
        counts=counts,
    )


def _shown(guide: BrandGuide, background: str, folder: Path, rules: Sequence[RuleResult]) -> Guide:
    """The guide as pages show it."""
    grounds = guide.ground_colours(background)
    clear = [TRANSPARENT] if grounds.pop(TRANSPARENT, None) else []
    parts = [
        GuidePart("Palette", swatches=guide.palette),
        GuidePart("Permitted grounds", clear, grounds),
        GuidePart("Forbidden words", list(guide.forbidden_words)),
        GuidePart("Forbidden things", list(guide.forbidden_things)),
        GuidePart("Trigger", [guide.trigger] if guide.trigger else []),
        GuidePart("Notes", guide.notes.strip().splitlines()),
        GuidePart("Reference pictures", pictures=_copied(guide.references, folder)),
    ]
    title = f"Brand guide: {guide.brand}" if guide.brand else "Brand guide"
    shown = [part for part in parts if part.texts or part.swatches or part.pictures]
    return Guide(title, shown, list(rules))


def _copied(references: Sequence[Path], folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, path in enumerate(references, 1):
        try:
            image = open_image(path)
        except DataError:  # a rule says so
            continue
        image.thumbnail((SIDE, SIDE))
        place = Path(REFERENCE_FOLDER) / f"{number}.png"
        (folder / REFERENCE_FOLDER).mkdir(exist_ok=True)
        save_picture(image, folder / place, private=True)
        found[unique_name(path.stem, found)] = place.as_posix()
    return found
