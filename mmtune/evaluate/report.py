"""One HTML file that shows what ran, what was measured and what the models gave.

It holds everything that it shows (styles, curves, images, sounds), so that it can be mailed; and
nothing in it is fetched or executed: there is no script, and all text is escaped.
"""

from __future__ import annotations

import base64
import difflib
import json
import math
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmtune.adapters.card import FILE, Card, read_card, versions
from mmtune.config import read_yaml
from mmtune.evaluate.compare import Comparison, Measure
from mmtune.evaluate.curves import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, chart
from mmtune.evaluate.verdict import Verdict, read_verdict
from mmtune.files import write_text
from mmtune.metrics.bootstrap import Interval
from mmtune.train.log import read_log

LARGEST_FILE = 8 * 2**20  # bytes of one embedded file; a larger one is only named
MOST_EXAMPLES = 40
HYPOTHESES = {"base", "adapter", "control"}
SPOKEN = HYPOTHESES | {"id", "reference", "prompt", "text", "caption"}  # columns of words


@dataclass(frozen=True)
class Cell:
    """One value in the table of examples."""

    kind: str  # "text", "image", "audio"
    words: list[tuple[str, bool]]  # text, and whether it departs from the reference
    data: str = ""  # data URI


@dataclass(frozen=True)
class Bar:
    """An interval on the common scale of a measure, in per cent of its width."""

    name: str
    kind: str  # "base", "adapter", "control", "reference"
    text: str
    at: float
    left: float
    width: float


@dataclass(frozen=True)
class Figure:
    """A measure as the report shows it."""

    measure: Measure
    bars: list[Bar]
    difference: str
    reading: str  # "better", "worse", "no clear difference", "not defined"


@dataclass(frozen=True)
class RunView:
    """One run: its comparison, and what its folder holds."""

    comparison: Comparison
    title: str
    figures: list[Figure]
    charts: list[Chart]
    images: list[tuple[str, str]]  # caption, data URI
    columns: list[str]
    examples: list[list[Cell]]
    left_out: int  # examples beyond `MOST_EXAMPLES`
    facts: list[tuple[str, str]]
    settings: str
    verdict: Verdict | None = None


def write_report(path: Path, comparisons: Sequence[Comparison], runs: Sequence[Path] = ()) -> None:
    """Write a self-contained report.

    Args:
        path: the HTML file.
        comparisons: one for each run, in the order in which they are shown.
        runs: their folders (`config.yaml`, `log.jsonl`, `verdict.json`, `adapter/card.json` are
            read where they exist); empty, or as many as `comparisons`.

    Raises:
        ValueError: `runs` is given for only some of the comparisons.
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
        runs=[_view(c, f) for c, f in zip(comparisons, folders, strict=True)],
        versions=versions(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html)


def _view(comparison: Comparison, folder: Path | None) -> RunView:
    card = read_card(folder / "adapter") if folder and _has_card(folder) else None
    columns = list(dict.fromkeys(key for example in comparison.examples for key in example))
    shown = comparison.examples[:MOST_EXAMPLES]
    return RunView(
        comparison=comparison,
        title=card.name if card else (folder.name if folder else comparison.modality),
        figures=[figure(measure) for measure in comparison.measures],
        charts=curves(folder / "log.jsonl") if folder else [],
        images=[
            (name, data)
            for name, file in comparison.files.items()
            if (data := embed(file)).startswith("data:image/")
        ],
        columns=columns,
        examples=[[_cell(name, example, folder) for name in columns] for example in shown],
        left_out=len(comparison.examples) - len(shown),
        facts=_facts(card),
        settings=_settings(folder),
        verdict=read_verdict(folder) if folder else None,
    )


def _has_card(folder: Path) -> bool:
    return (folder / "adapter" / FILE).exists()


def figure(measure: Measure) -> Figure:
    """Place a measure's intervals on one scale, and say what the difference means."""
    named = [("base", measure.base), ("adapter", measure.adapter)]
    if measure.control is not None:
        named.append(("control", measure.control))
    named += measure.references.items()
    defined = [i for _, i in named if math.isfinite(i.value)]
    # From 0, so that lengths can be compared by eye; below 0 only where a value is.
    low = min([0.0, *(i.low for i in defined)])
    high = max([0.0, *(i.high for i in defined), *(i.value for i in defined)])
    span = high - low or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    roles = {"base", "adapter", "control"}
    bars = [
        Bar(
            name,
            name if name in roles else "reference",
            str(i),
            place(i.value),
            place(i.low),
            round(place(i.high) - place(i.low), 2),
        )
        for name, i in named
        if math.isfinite(i.value)
    ]
    return Figure(measure, bars, _signed(measure.difference), reading(measure))


def reading(measure: Measure) -> str:
    """What the interval of the difference says: "better" only where it excludes zero."""
    gap = measure.difference
    if not math.isfinite(gap.value):
        return "not defined"
    if gap.low <= 0 <= gap.high:
        return "no clear difference"
    return "better" if (gap.low > 0) == measure.higher_is_better else "worse"


def _signed(interval: Interval) -> str:
    if not math.isfinite(interval.value):
        return "–"
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def curves(log: Path) -> list[Chart]:
    """Charts of the training loss and of every validation metric in a run's log."""
    if not log.exists():
        return []
    loss: list[tuple[float, float]] = []
    validation: dict[str, list[tuple[float, float]]] = {}
    for entry in read_log(log):
        if entry.get("loss") is not None:
            loss.append((float(entry["step"]), float(entry["loss"])))
        for name, value in (entry.get("validation") or {}).items():
            validation.setdefault(name, []).append((float(entry["step"]), float(value)))
    named = [("training loss", loss)] + [(f"validation {n}", p) for n, p in validation.items()]
    return [c for title, points in named if (c := chart(title, points)) is not None]


def embed(file: Path) -> str:
    """A file as a data URI; empty where it is missing, too large, or no image or sound."""
    kind = mimetypes.guess_type(file.name)[0] or ""
    # SVG may carry scripts: as an <img> they don't run, but the file may be opened by itself.
    if not kind.startswith(("image/", "audio/")) or kind == "image/svg+xml":
        return ""
    if not file.is_file() or file.stat().st_size > LARGEST_FILE:
        return ""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _cell(name: str, example: Mapping[str, Any], folder: Path | None) -> Cell:
    value = example.get(name)
    file = _file(name, value, folder)
    if file is not None:
        data = embed(file)
        if data:
            return Cell(data[5:10], [], data)  # "image" or "audio"
        return Cell("text", [(file.name, False)])
    if isinstance(value, float):
        return Cell("text", [(f"{value:.3f}", False)])
    if isinstance(value, list | tuple):
        return Cell("text", [(", ".join(str(v) for v in value), False)])
    text = "" if value is None else str(value)
    reference = example.get("reference")
    if name in HYPOTHESES and isinstance(reference, str):
        return Cell("text", departures(text, reference))
    return Cell("text", [(text, False)])


def _file(name: str, value: Any, folder: Path | None) -> Path | None:
    """The file that an example names, if it does: a path, or (read back from JSON) its text.

    What a model or a transcript says is data of others: it names a file only inside the run.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not mimetypes.guess_type(value)[0]:
        return None
    path = Path(value)
    try:
        inside = folder is not None and path.resolve().is_relative_to(folder.resolve())
        return path if (inside or name not in SPOKEN) and path.is_file() else None
    except (OSError, ValueError):  # too long for a name, or with a zero byte: no path after all
        return None


def departures(text: str, reference: str) -> list[tuple[str, bool]]:
    """Runs of the words of `text`, each with whether it departs from `reference`.

    Case and punctuation don't count, as in the metrics.
    """

    def plain(words: Sequence[str]) -> list[str]:
        return ["".join(c for c in w.lower() if c.isalnum()) for w in words]

    words, wanted = text.split(), reference.split()
    matcher = difflib.SequenceMatcher(None, plain(words), plain(wanted), autojunk=False)
    return [
        (" ".join(words[a:b]), tag != "equal") for tag, a, b, _, _ in matcher.get_opcodes() if b > a
    ]


def _facts(card: Card | None) -> list[tuple[str, str]]:
    if card is None:
        return []
    rows = ", ".join(f"{n} {split}" for split, n in card.rows.items())
    facts = [
        ("recipe", card.recipe),
        ("base", f"{card.base}, weights {card.base_hash[:16]}"),
        ("dataset", f"{rows}; fingerprint {card.dataset[:16]}"),
        ("kept", f"step {card.best_step} of {card.steps}"),
        ("trained", card.created),
        *card.facts(),
    ]
    return [*facts, ("with", ", ".join(f"{n} {v}" for n, v in card.versions.items()))]


def _settings(folder: Path | None) -> str:
    if folder is None or not (folder / "config.yaml").exists():
        return ""
    return json.dumps(read_yaml(folder / "config.yaml"), indent=2, ensure_ascii=False, default=str)
