"""The report: one HTML file with the verdict, the measures, plots, examples and settings.

The file holds all styles, plots, images and sounds, so it can be sent by mail. It fetches and
executes nothing: it has no script, and all text is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmtune.adapters.adapter_rights import ended_note, policy_of_run
from mmtune.adapters.card import CARD_FILE, Card, read_card, versions
from mmtune.config import Content, ReportOptions, read_yaml
from mmtune.data.policy import refusal_counts
from mmtune.data.rights_file import ShownRows, read_shown_rows
from mmtune.errors import ConfigError, MmtuneError
from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.verdict import Verdict, read_verdict
from mmtune.metrics.explained import unit_of
from mmtune.metrics.measure import Table
from mmtune.pages.axes import BOTTOM, HEIGHT, RIGHT, TOP, WIDTH
from mmtune.pages.content import MAX_EXAMPLES, Examples, Play, embed, show, stricter
from mmtune.pages.figures import Figure, figure
from mmtune.pages.guide_view import GuideView, view_guide
from mmtune.pages.pair import Pair, pair_sentence
from mmtune.pages.picture_table import PictureTables, picture_tables
from mmtune.pages.plots import (
    SIDES,
    Plot,
    calibration_plot,
    group_plots,
    steps_plot,
    strengths_plot,
)
from mmtune.pages.preference import Result, stored_review
from mmtune.pages.questions import Check, checks_of, next_steps
from mmtune.pages.redact import (
    Naming,
    NoNames,
    OwnNames,
    redact_base,
    redact_comparison,
    redact_review,
    redact_settings,
    redact_verdict,
)
from mmtune.pages.sources import Sources, require_own_files, sources_of
from mmtune.system.files import write_text
from mmtune.system.formats import without_format
from mmtune.training.log import read_log

PAGE, REDACTED = "report.html", "report-redacted.html"
GRID_SIDE = 2048  # pixels; longest side of an image grid
GRID = "grid"  # name of the grid among a comparison's files
OWN_FACTS = (
    "trigger",
    "started from",
    "consent and licence",
)  # of a card, in words that are the user's own
OPEN_KINDS = 2  # kinds of examples that are visible at once


@dataclass(frozen=True)
class RunView:
    """All that the report shows of one run: its comparison, and data from its folder."""

    title: str
    base: str
    headline: str
    content: Content
    figures: list[Figure]
    training: list[Plot] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)  # caption, data URI
    pictures: list[PictureTables] = field(default_factory=list)
    examples: list[Examples] = field(default_factory=list)  # those that `pictures` don't hold
    left_out: int = 0  # number of examples beyond `MAX_EXAMPLES`
    facts: list[tuple[str, str]] = field(default_factory=list)
    settings: str = ""
    verdict: Verdict | None = None
    main: Figure | None = None  # the suite's main measure: does the adapter help?
    checks: dict[str, list[Check]] = field(default_factory=dict)  # by level
    review: Result | None = None
    now: list[tuple[str, str]] = field(default_factory=list)  # what to do next, and the command
    notes: list[str] = field(default_factory=list)  # on the data that was scored
    tables: list[Table] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict)
    pair: Pair | None = None  # two adapters: the other one stands in the base's place
    guide: GuideView | None = None  # the user's rules, and whether base and adapter keep them
    first: str = ""  # the result in words, where there is no verdict to say it

    @property
    def names(self) -> dict[str, str]:
        """What the page calls base and adapter, where it has other names for them."""
        return self.pair.names if self.pair else {}


def write_report(
    path: Path,
    comparisons: Sequence[Comparison],
    runs: Sequence[Path] = (),
    *,
    redacted: bool = False,
    play: Play | None = None,
    naming: Naming | None = None,
    pair: Pair | None = None,
) -> None:
    """Write a self-contained report of one or more runs, or of two adapters.

    A run's own setting `report.content` decides what is shown of its items.

    Args:
        path: the HTML file.
        comparisons: one for each run, in the order of the page.
        runs: the run folders, from which `config.yaml`, `log.jsonl`, `verdict.json`, `review.json`
            and `adapter/card.json` are read if they exist; empty, or one for each comparison.
        redacted: show no items of any run, whatever its settings say.
        play: reads the items of rows; None: recordings are left out.
        naming: gives the names that a modality gives itself and that a redacted page keeps; None:
            it keeps none.
        pair: names of the two adapters that were compared; None: base and adapter were.

    Raises:
        ValueError: `runs` is given for only some of the comparisons.
        ConfigError: `report.content` of a run is wrong, or a file of a run folder is a link that
            leads out of it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if runs and len(runs) != len(comparisons):
        raise ValueError(f"{len(comparisons)} comparisons but {len(runs)} run folders")
    folders: Sequence[Path | None] = runs or [None] * len(comparisons)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        runs=[
            _view(c, f, redacted, play, naming, pair)
            for c, f in zip(comparisons, folders, strict=True)
        ],
        open_kinds=OPEN_KINDS,
        versions=versions(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        frame={"width": WIDTH, "height": HEIGHT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html, private=True)


def content_policy(folder: Path | None) -> Content:
    """Read the policy `report.content` from a run's settings; "all" if there are none.

    Raises:
        ConfigError: the value is wrong.
    """
    if folder is None or not (folder / "config.yaml").exists():
        return "all"
    values = read_yaml(folder / "config.yaml").get("report") or {}
    try:
        return ReportOptions.model_validate(values).content
    except ValidationError:
        raise ConfigError(
            f"{folder / 'config.yaml'}: report = {values!r} is not valid",
            "set report.content to all, generated or none",
        ) from None


def _view(
    comparison: Comparison,
    folder: Path | None,
    redacted: bool,
    play: Play | None,
    naming: Naming | None,
    pair: Pair | None = None,
) -> RunView:
    if folder is not None:
        require_own_files(folder)
    sources = sources_of(folder)
    content: Content = "none" if redacted else content_policy(folder)
    if pair is not None:
        content = stricter(content, pair.content)
    card = read_card(folder / "adapter") if folder and _has_card(folder) else None
    rows = read_shown_rows(folder, policy_of_run(folder, card), sources.in_run)
    allowed, hidden = rows.divided(comparison.examples)
    verdict = read_verdict(folder) if folder else None
    review = stored_review(folder) if folder else None
    if content != "all":
        own = _own_names(comparison.modality, naming)
        verdict = redact_verdict(verdict, comparison, own) if verdict else None
        review = redact_review(review) if review else None
        shown = redact_comparison(comparison, own)
    else:
        shown = comparison
    if pair is not None:
        pair = pair if content == "all" else pair.without_names()
        verdict = review = None
    place = str(folder) if folder and content == "all" else "RUN"
    names = SIDES if pair is None else pair.names
    groups = group_plots(shown.measures, names)
    # The card is that of one adapter: its strengths say nothing of two.
    others = _others(shown, card if pair is None else None, names)
    pictures, examples = _divided(show(allowed, comparison.modality, sources, content, play))
    title = card.name if card else (folder.name if folder else comparison.modality)
    plots = [*groups, *others]
    return RunView(
        title=title if pair is None else f"{pair.adapter} and {pair.other}",
        base=_base(card, content),
        headline=shown.headline,
        content=content,
        figures=[figure(m) for m in shown.measures],
        training=_training(folder, card),
        plots=plots,
        images=[
            (name, data)
            for name, file in shown.files.items()
            if not rows.hides_rows  # a table of pictures shows rows that can't be told apart
            and (name != GRID or not pictures)  # which show the same, larger
            and (data := _grid(file, sources)).startswith("data:image/")
        ],
        pictures=pictures,
        examples=examples,
        left_out=max(0, len(allowed) - MAX_EXAMPLES) if content == "all" else 0,
        facts=_facts(card, content),
        settings=_settings(folder, content),
        verdict=verdict,
        main=_main_figure(verdict, shown),
        checks=checks_of(verdict, place),
        now=next_steps(verdict, shown, place),
        notes=list(dict.fromkeys([*shown.notes, *_rights_notes(card, hidden, rows)])),
        review=review,
        tables=shown.tables,
        speed=shown.speed,
        pair=pair,
        guide=view_guide(shown.guide, sources, pair.names if pair else {}) if shown.guide else None,
        first=pair_sentence(shown, pair) if pair is not None else "",
    )


def _rights_notes(card: Card | None, hidden: Mapping[str, int], rows: ShownRows) -> Iterator[str]:
    """What the page doesn't show, and consents that have ended; nothing here names a row."""
    if hidden:
        count = sum(hidden.values())
        unknown = "" if rows.by_id else "; mmtune evaluate records what the rows of this run state"
        yield f"{count} examples are not shown, by policy: {refusal_counts(hidden)}{unknown}"
    if rows.hides_rows:
        yield "tables of pictures are not shown, because some of their rows may not be shown"
    if note := ended_note(card, "this adapter") if card is not None else "":
        yield note


def _divided(examples: Sequence[Examples]) -> tuple[list[PictureTables], list[Examples]]:
    """The examples that are pictures, as tables, and the others."""
    found = [(each, picture_tables(each)) for each in examples]
    return [t for _, t in found if t is not None], [each for each, t in found if t is None]


def _own_names(modality: str, naming: Naming | None) -> OwnNames:
    try:
        return naming(modality) if naming is not None else NoNames()
    except MmtuneError:  # the package that adds it isn't here
        return NoNames()


def _grid(file: Path, sources: Sources) -> str:
    found = sources.find(file)
    return embed(found, GRID_SIDE, lossless=True) if found else ""


def _has_card(folder: Path) -> bool:
    return (folder / "adapter" / CARD_FILE).exists()


def _base(card: Card | None, content: Content) -> str:
    if card is None:
        return ""
    return card.base if content == "all" else redact_base(card.base)


def _main_figure(verdict: Verdict | None, comparison: Comparison) -> Figure | None:
    if verdict is None:
        return None
    found = comparison.measure_of(verdict.main.metric, verdict.main.slice)
    return figure(found) if found is not None else None


def _training(folder: Path | None, card: Card | None) -> list[Plot]:
    """Plot the training loss and every validation metric from a run's log."""
    if folder is None or not (folder / "log.jsonl").exists():
        return []
    loss: list[tuple[float, float]] = []
    validation: dict[str, list[tuple[float, float]]] = {}
    for entry in read_log(folder / "log.jsonl"):
        if entry.get("loss") is not None:
            loss.append((float(entry["step"]), float(entry["loss"])))
        for name, value in (entry.get("validation") or {}).items():
            validation.setdefault(name, []).append((float(entry["step"]), float(value)))
    kept = card.best_step if card and card.steps else None
    drawn = [steps_plot("training loss", loss, unit=unit_of("loss"))]
    for name, points in validation.items():
        title = f"validation {name.replace('_', ' ')}"
        drawn.append(steps_plot(title, points, unit=unit_of(name), kept=kept))
    return [plot for plot in drawn if plot is not None]


def _others(comparison: Comparison, card: Card | None, names: Mapping[str, str]) -> list[Plot]:
    """Plot the compared strengths, and the calibration of confidence."""
    drawn = [calibration_plot(comparison.calibration, names)]
    if card is not None:
        name = next(iter(card.validation), "validation metric").replace("_", " ")
        chosen = card.scale if card.advised is None else card.advised
        drawn.insert(0, strengths_plot(card.sweep, name=name, chosen=chosen))
    return [plot for plot in drawn if plot is not None]


def _facts(card: Card | None, content: Content) -> list[tuple[str, str]]:
    if card is None:
        return []
    rows = ", ".join(f"{n} {split}" for split, n in card.rows.items())
    facts = [
        ("recipe", card.recipe),
        ("base", f"{_base(card, content)}, weights {card.base_hash[:16]}"),
        ("dataset", f"{rows}; fingerprint {card.dataset[:16]}"),
        ("checkpoint", f"step {card.best_step} of {card.steps}"),
        ("trained", card.created),
        *(fact for fact in card.facts() if content == "all" or fact[0] not in OWN_FACTS),
    ]
    return [*facts, ("versions", ", ".join(f"{n} {v}" for n, v in card.versions.items()))]


def _settings(folder: Path | None, content: Content) -> str:
    if folder is None or not (folder / "config.yaml").exists():
        return ""
    path = folder / "config.yaml"
    values: Mapping[str, Any] = without_format(read_yaml(path), path)
    shown = values if content == "all" else redact_settings(values)
    return json.dumps(shown, indent=2, ensure_ascii=False, default=str)
