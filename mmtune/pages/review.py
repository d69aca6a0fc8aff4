"""The review page, on which people compare base and adapter blindly.

The page is one file that works offline. A separate key file, not the page, holds which side is the
adapter. `preference` evaluates the answers.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from mmtune.adapters.adapter_rights import policy_of_run
from mmtune.adapters.card import CARD_FILE, read_card, weights_hash
from mmtune.data.policy import refusal_counts
from mmtune.data.rights_file import ShownRows, read_shown_rows
from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.comparison import read_comparison
from mmtune.pages.content import Play, departures, embed, picture
from mmtune.pages.guide_view import GuideView, view_guide
from mmtune.pages.sources import Sources, require_own_files, sources_of
from mmtune.system.files import write_text
from mmtune.system.hashing import hash_json, hash_text
from mmtune.system.locks import locked
from mmtune.system.stored import damaged, read_json, read_json_lines

PREDICTIONS = "predictions.jsonl"
PLACE, KEY = "review", "review_key.json"
OTHER = {"A": "B", "B": "A"}

Side = Literal["A", "B"]
Choice = Literal["A", "B", "same", "bad"]
Read = TypeVar("Read", bound=BaseModel)


class Record(BaseModel):
    """A JSON file that belongs to a review page."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Key(Record):
    """The key that unblinds a page: the adapter's side and the row of each item."""

    review: str
    run: str
    adapter: str  # hash of the run's adapter weights
    seed: int
    sides: dict[str, Side]
    rows: dict[str, str]
    same: int  # number of pairs left out, because base and adapter gave the same


class Answers(Record):
    """One person's answers by item, as the page saves them."""

    review: str
    rater: str = ""
    answers: dict[str, Choice]


@dataclass(frozen=True)
class ReviewItem:
    """One item of the page: the answers of base and adapter for a row.

    Attributes:
        row: id of the row.
        shown: whether `base` and `adapter` are texts, or data URIs of images.
        base: the base's answer.
        adapter: the adapter's answer.
        reference: the true transcript, or the caption of an image.
        sound: data URI of the recording; empty if there is none.
    """

    row: str
    shown: Literal["text", "picture"]
    base: str
    adapter: str
    reference: str
    sound: str = ""


@dataclass(frozen=True)
class Page:
    """The result of `write_review`: the files, and the numbers of shown and left-out pairs."""

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
    """Write a page with pairs from a run's comparison, and its key beside it.

    Args:
        run: the folder of a finished run.
        out: the HTML file; None: `review/review.html` in the run folder.
        items: the most pairs on the page.
        seed: random seed for the selection, order and sides of the pairs.
        play: reads the recording of a row; None: pairs are shown without sound.

    Raises:
        ConfigError: there is no comparison, the key of another page would be overwritten, or a
            file of the run folder is a link that leads out of it.
        Locked: another command writes into the page's folder.
        DataError: base and adapter gave the same everywhere, or there is nothing to show.
    """
    run = run.resolve() if run.name in {"", ".."} else run
    require_own_files(run)
    sources = sources_of(run)
    path = out or run / PLACE / "review.html"
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", "give a file: --out review.html")
    card = read_card(run / "adapter") if (run / "adapter" / CARD_FILE).is_file() else None
    rows = read_shown_rows(run, policy_of_run(run, card), sources.in_run)
    found = _candidates(run, rows)
    hidden = Counter(each.refused for each in found if each.refused is not None)
    allowed = [each for each in found if each.refused is None]
    drawn = sorted(allowed, key=lambda each: hash_text(f"{seed}|{each.row}"))
    different = [each for each in drawn if each.base != each.adapter]
    same, pairs = len(drawn) - len(different), []
    for each in different:
        pair = _load(each, run, sources, play)
        if pair.base == pair.adapter:  # two files with the same image
            same += 1
            continue
        pairs.append(pair)
        if len(pairs) == items:
            break
    if not pairs:
        why = (
            f"base and adapter gave the same for all {same} rows"
            if same
            else "the comparison holds no answers"
        )
        if hidden:
            why += f"; {hidden.total()} may not be shown: {refusal_counts(hidden)}"
        raise DataError(
            f"{run}: there is no pair to compare: {why}",
            f"see {run / 'report.html'}, or measure the run again: mmtune evaluate {run}",
        )
    # The content takes part in the seed, so that pages of one length have different sides.
    chance = random.Random(hash_json([seed, [[p.row, p.base, p.adapter] for p in pairs]]))
    chance.shuffle(pairs)
    sides: list[Side] = ["A" if i % 2 else "B" for i in range(len(pairs))]
    chance.shuffle(sides)
    names = [str(i + 1) for i in range(len(pairs))]
    shown = [_page_item(n, p, s) for n, p, s in zip(names, pairs, sides, strict=True)]
    key = Key(
        review=hash_json(shown)[:16],
        run=run.name,
        adapter=adapter_of(run),
        seed=seed,
        sides=dict(zip(names, sides, strict=True)),
        rows={name: pair.row for name, pair in zip(names, pairs, strict=True)},
        same=same,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    guide = read_comparison(run).guide
    view = view_guide(guide, sources) if guide is not None else None
    with locked(run if out is None else path.parent):
        return _write(path, key, shown, view)


def _write(
    path: Path, key: Key, shown: Sequence[Mapping[str, Any]], guide: GuideView | None
) -> Page:
    beside = path.parent / KEY
    if beside.exists() and read_model(beside, Key).review != key.review:
        raise ConfigError(
            f"{beside} is the key of another page and would be overwritten",
            "choose another folder: --out FOLDER/review.html",
        )
    write_text(beside, key.model_dump_json(indent=2) + "\n", private=True)
    write_text(path, _html(key.review, shown, guide), private=True)
    return Page(path, beside, len(shown), key.same)


def _html(review: str, shown: Sequence[Mapping[str, Any]], guide: GuideView | None) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    script = (here / "review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("review.html.j2").render(
        data={"review": review, "items": shown},
        script=script,
        script_hash=f"sha256-{digest}",
        guide=guide,
    )


def _page_item(name: str, pair: ReviewItem, side: Side) -> dict[str, Any]:
    """Make the page's data of a pair: two sides without anything that tells which is which."""
    sides = {side: pair.adapter, OTHER[side]: pair.base}
    a, b = sides["A"], sides["B"]
    item = {"id": name, "reference": pair.reference, "sound": pair.sound}
    if pair.shown == "text":
        return item | {"shown": "text", "a": departures(a, b), "b": departures(b, a)}
    return item | {"shown": pair.shown, "a": a, "b": b}


@dataclass(frozen=True)
class _Candidate:
    """A pair whose files aren't read yet."""

    row: str
    base: str
    adapter: str
    reference: str
    picture: bool
    item: Mapping[str, Any]  # the manifest's row, if the run has stored it
    sound: str
    modality: str
    refused: str | None = None  # why the page may not show it


def _candidates(run: Path, rows: ShownRows | None = None) -> list[_Candidate]:
    """List the pairs of answers in a run's comparison, one per row.

    Args:
        run: the run folder.
        rows: judges which rows may be shown; None: all may.

    Raises:
        ConfigError: the run has no comparison.
    """
    comparison = read_comparison(run)
    found: dict[str, _Candidate] = {}
    # The predictions file holds the whole test. Without it (images, older runs) use the examples.
    for place, values in enumerate(list(_predictions(run / PREDICTIONS)) or comparison.examples):
        if not isinstance(values.get("base"), str) or not isinstance(values.get("adapter"), str):
            continue  # an example of a copied training image has no base
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
                rows.refusal(values) if rows is not None else None,
            ),
        )
    return list(found.values())


def _predictions(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the predictions of the test slice that name their row; those of older runs don't."""
    if not path.is_file():
        return
    cure = f"write it again with mmtune evaluate {path.parent}"
    for values in read_json_lines(path, cure):
        if values.get("slice") == "test" and values.get("row"):
            yield values


def _load(each: _Candidate, run: Path, sources: Sources, play: Play | None) -> ReviewItem:
    """Read a pair's images and sound as data URIs.

    Raises:
        DataError: a recording can't be read, or an image is missing.
    """
    if each.picture:
        # Both are encoded again in the same way, because metadata or format could tell the adapter.
        files = [_picture_of(sources, value) for value in (each.base, each.adapter)]
        base, adapter = (picture(file, lossless=True) for file in files)
        if not (base and adapter):
            raise DataError(
                f"{files[1 if base else 0]} can't be opened",
                f"generate the images again: mmtune evaluate {run} --fresh",
            )
        return ReviewItem(each.row, "picture", base, adapter, each.reference)
    sound = ""
    if each.item and play is not None:
        kind, content = play(each.modality, each.item, sources.find)
        sound = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    elif each.sound:
        found = sources.find(each.sound)
        sound = embed(found) if found else ""
    return ReviewItem(each.row, "text", each.base, each.adapter, each.reference, sound)


def _picture_of(sources: Sources, text: str) -> Path:
    """Find the image in the run folder that an example names.

    Raises:
        DataError: the image is missing.
    """
    found = sources.in_run(text)
    if found is not None:
        return found
    # The page must not show the path instead, because its folder's name tells which side it is.
    raise DataError(
        f"{sources.run}: the image {text} is missing",
        f"generate it again: mmtune evaluate {sources.run}",
    )


def adapter_of(run: Path) -> str:
    """Return the hash of the run's adapter; empty if the run folder holds no adapter."""
    folder = run / "adapter"
    return weights_hash(folder) if folder.is_dir() else ""


def read_model(path: Path, kind: type[Read]) -> Read:
    """Read and validate a JSON file.

    Raises:
        ConfigError: the file is missing.
        DataError: the file can't be read, or its content is wrong.
    """
    cure = "use the file as mmtune or the page wrote it"
    try:
        values = read_json(path, cure, DataError)
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}", "correct the path") from None
    with damaged(path, cure, DataError):
        return kind.model_validate(values)
