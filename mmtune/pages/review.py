"""People's blind preference: a page that hides which side is which.

The page is one file that works offline; which side is the adapter's stands in a key beside it, and
nowhere in the page. `preference` says what the answers mean.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mmtune.adapters.card import weights_hash
from mmtune.errors import ConfigError, DataError, MmtuneError
from mmtune.evaluate.comparison import read_comparison
from mmtune.pages.content import Play, departures, embed, inside, picture
from mmtune.system.files import write_text
from mmtune.system.hashing import hash_json, hash_text

PREDICTIONS = "predictions.jsonl"
PLACE, KEY = "review", "review_key.json"
OTHER = {"A": "B", "B": "A"}

Side = Literal["A", "B"]
Choice = Literal["A", "B", "same", "bad"]
Read = TypeVar("Read", bound=BaseModel)


class Record(BaseModel):
    """Of a file beside the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Key(Record):
    """What un-blinds: the adapter's side of each item, and the row that it shows."""

    review: str
    run: str
    adapter: str  # hash of the run's adapter weights
    seed: int
    sides: dict[str, Side]
    rows: dict[str, str]
    same: int  # pairs that were left out: base and adapter gave the same


class Answers(Record):
    """What the page saves: of one person, by item."""

    review: str
    rater: str = ""
    answers: dict[str, Choice]


@dataclass(frozen=True)
class Pair:
    """One item: what base and adapter gave for a row, as the page shows it.

    Attributes:
        shown: "text" or "picture"; then `base` and `adapter` are words or data URIs.
        sound: a data URI, or empty.
        reference: what should be there: a transcript; of images the caption.
    """

    row: str
    shown: Literal["text", "picture"]
    base: str
    adapter: str
    reference: str
    sound: str = ""


@dataclass(frozen=True)
class Page:
    """What was written."""

    path: Path
    key: Path
    items: int
    same: int


def write_review(
    run: Path,
    out: Path | None = None,
    *,
    items: int = 40,
    seed: int = 0,
    play: Play | None = None,
) -> Page:
    """Write a page with pairs of a run's comparison, and its key beside it.

    Args:
        run: a finished run's folder.
        out: the HTML file; None: `review/review.html` in the run's folder.
        items: at most so many pairs.
        seed: of which pairs, their order and their sides.
        play: reads the recording of a row; None: pairs are shown without sound.

    Raises:
        ConfigError: there is no comparison, or the key of another page is in the way.
        DataError: base and adapter gave the same everywhere, or nothing can be shown.
    """
    run = run.resolve() if run.name in {"", ".."} else run
    path = out or run / PLACE / "review.html"
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", "name a file: --out review.html")
    drawn = sorted(_candidates(run), key=lambda each: hash_text(f"{seed}|{each.row}"))
    different = [each for each in drawn if each.base != each.adapter]
    same, pairs = len(drawn) - len(different), []
    for each in different:
        pair = _opened(each, run, play)
        if pair.base == pair.adapter:  # two files of one picture
            same += 1
            continue
        pairs.append(pair)
        if len(pairs) == items:
            break
    if not pairs:
        found = f"base and adapter gave the same for all {same} rows" if same else "it shows none"
        raise DataError(
            f"{run}: there is no pair to compare: {found}",
            f"look at {run / 'report.html'}; mmtune evaluate {run} measures it again",
        )
    # Sides from what is shown too: else all pages of one seed and length would have the same.
    chance = random.Random(hash_json([seed, [[p.row, p.base, p.adapter] for p in pairs]]))
    chance.shuffle(pairs)
    sides: list[Side] = ["A" if i % 2 else "B" for i in range(len(pairs))]
    chance.shuffle(sides)
    names = [str(i + 1) for i in range(len(pairs))]
    shown = [_shown(n, p, s) for n, p, s in zip(names, pairs, sides, strict=True)]
    key = Key(
        review=hash_json(shown)[:16],
        run=run.name,
        adapter=adapter_of(run),
        seed=seed,
        sides=dict(zip(names, sides, strict=True)),
        rows={name: pair.row for name, pair in zip(names, pairs, strict=True)},
        same=same,
    )
    beside = path.parent / KEY
    if beside.exists() and read_model(beside, Key).review != key.review:
        raise ConfigError(
            f"{beside} is the key of another page, whose answers could not be read without it",
            "name another folder: --out FOLDER/review.html",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(beside, key.model_dump_json(indent=2) + "\n")
    write_text(path, _html(key.review, shown))
    return Page(path, beside, len(pairs), same)


def _html(review: str, shown: Sequence[Mapping[str, Any]]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    script = (here / "review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("review.html.j2").render(
        data={"review": review, "items": shown}, script=script, script_hash=f"sha256-{digest}"
    )


def _shown(name: str, pair: Pair, side: Side) -> dict[str, Any]:
    """What the page holds of a pair: two sides, and nothing that tells them apart."""
    sides = {side: pair.adapter, OTHER[side]: pair.base}
    a, b = sides["A"], sides["B"]
    item = {"id": name, "reference": pair.reference, "sound": pair.sound}
    if pair.shown == "text":
        return item | {"shown": "text", "a": departures(a, b), "b": departures(b, a)}
    return item | {"shown": pair.shown, "a": a, "b": b}


@dataclass(frozen=True)
class _Candidate:
    """A pair before its files are opened."""

    row: str
    base: str
    adapter: str
    reference: str
    picture: bool
    item: Mapping[str, Any]  # the manifest's row, where the run has kept it
    sound: str
    modality: str


def _candidates(run: Path) -> list[_Candidate]:
    """All that base and adapter were asked in a run's comparison, once each.

    Raises:
        ConfigError: there is none.
    """
    comparison = read_comparison(run)
    found: dict[str, _Candidate] = {}
    # Predictions are all of the test; without them (images, older runs) there are the examples.
    for place, values in enumerate(list(_predictions(run / PREDICTIONS)) or comparison.examples):
        if not isinstance(values.get("base"), str) or not isinstance(values.get("adapter"), str):
            continue  # a copy that is shown beside its original has no base
        picture = "reference" not in values
        reference = str(values.get("prompt" if picture else "reference", ""))
        row = str(values.get("id") or f"{reference} #{place}")
        found.setdefault(
            row,
            _Candidate(
                row,
                values["base"],
                values["adapter"],
                reference,
                picture,
                values.get("row") or {},
                str(values.get("audio", "")),
                comparison.modality,
            ),
        )
    return list(found.values())


def _predictions(path: Path) -> Iterable[dict[str, Any]]:
    """Lines of the test slice that name their row's file; an older run's don't."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if values.get("slice") == "test" and values.get("row"):
            yield values


def _opened(each: _Candidate, run: Path, play: Play | None) -> Pair:
    """The pair with pictures and sound as data URIs.

    Raises:
        DataError: a recording can't be read, or a picture is gone.
    """
    if each.picture:
        # Written anew, and alike: metadata, or a format of its own, may tell the adapter.
        files = [_picture_of(run, value) for value in (each.base, each.adapter)]
        base, adapter = (picture(file, lossless=True) for file in files)
        if not (base and adapter):
            raise DataError(
                f"{files[1 if base else 0]} can't be opened", f"mmtune evaluate {run} --fresh"
            )
        return Pair(each.row, "picture", base, adapter, each.reference)
    sound = ""
    if each.item and play is not None:
        kind, content = play(each.modality, each.item)
        sound = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    elif each.sound:
        sound = embed(Path(each.sound))
    return Pair(each.row, "text", each.base, each.adapter, each.reference, sound)


def _picture_of(run: Path, text: str) -> Path:
    """The picture in the run's folder that an example names.

    Raises:
        DataError: it is gone.
    """
    found = inside(run, text)
    if found is not None:
        return found
    # Its path must not stand in for it: the folder's name says which side it is.
    raise DataError(f"{run}: the picture {text} is gone", f"mmtune evaluate {run}")


def adapter_of(run: Path) -> str:
    """Hash of the run's adapter; empty in a run that was passed on without it."""
    folder = run / "adapter"
    return weights_hash(folder) if folder.is_dir() else ""


def read_model(path: Path, kind: type[Read]) -> Read:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}", "correct the path") from None
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        found = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        problem: MmtuneError = DataError(f"{path} can't be read: {found}", "restore the file")
        raise problem from None
