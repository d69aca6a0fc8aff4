"""What people preferred, from the answers to a blind page (`review`).

Preference is a share with its Wilson interval (Wilson 1927; Newcombe 1998).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from mmtune.errors import ConfigError, DataError
from mmtune.pages.review import KEY, PLACE, Answers, Key, Record, Side, adapter_of, read_model
from mmtune.system.files import write_text

RESULT_FILE = "review.json"


class Count(Record):
    """Decisions, and the adapter's share of those that chose a side, with its 95 % interval."""

    adapter: int
    base: int
    same: int
    bad: int
    share: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.share is None:
            return "–"
        return f"{self.share:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Result(Record):
    """What people preferred (`review.json` in the run's folder).

    Attributes:
        items: pairs on the page.
        same: pairs that were not shown, for base and adapter gave the same.
        raters: each person's answers.
        answers: all answers together; those of one item are not independent, so its interval is
            too narrow with several people.
        by_item: what most people chose for each item; a tie is "same". This is the result.
    """

    review: str
    run: str
    adapter: str = ""  # hash of its weights
    items: int
    same: int
    raters: dict[str, Count]
    answers: Count
    by_item: Count
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def sentence(self) -> str:
        """What it comes to, in words."""
        found = self.by_item
        people = "1 person" if len(self.raters) == 1 else f"{len(self.raters)} people"
        if found.share is None:
            return f"no pair was decided, by {people}"
        verdict = "no clear preference"
        if found.low is not None and found.low > 0.5:
            verdict = "the adapter is preferred"
        elif found.high is not None and found.high < 0.5:
            verdict = "the base is preferred"
        return (
            f"adapter {found} of {found.adapter + found.base} decided pairs, by {people}: {verdict}"
        )

    @property
    def headline(self) -> str:
        """One line for the terminal."""
        return f"review   {self.run}   {self.sentence}"

    @property
    def table(self) -> tuple[tuple[str, ...], ...]:
        """Head and lines for the terminal."""
        head = ("", "adapter better", "base better", "same", "both bad", "adapter's share")
        named = [*self.raters.items()]
        if len(named) > 1:
            named += [("all answers", self.answers), ("most, by pair", self.by_item)]
        lines = [
            (name, *(str(v) for v in (c.adapter, c.base, c.same, c.bad)), str(c))
            for name, c in named
        ]
        return (head, *lines)


def read_review(run: Path, answers: Sequence[Path], key: Path | None = None) -> Result:
    """Un-blind people's answers, count them, and write `review.json` into the run's folder.

    Args:
        answers: one file a person.
        key: None: the one that fits, in the run's `review/`, the run, here, or beside an answer.

    Raises:
        ConfigError: no key fits, or it is of another run or an earlier adapter.
        DataError: a file holds no answers, or those of another page, or a person's twice.
    """
    run = run.resolve() if run.name in {"", ".."} else run
    if not run.is_dir():
        raise ConfigError(f"no such run: {run}", "give runs/NAME")
    given = [(path, read_model(path, Answers)) for path in answers]
    opened = _find_key(run, given, key)
    if opened.adapter and opened.adapter != adapter_of(run):
        raise ConfigError(
            f"{run} holds another adapter than the page showed",
            "write a new page: mmtune review RUN",
        )
    people: dict[str, dict[str, str]] = {}
    for path, each in given:
        if each.review != opened.review:
            raise DataError(
                f"{path} answers another page ({each.review}, not {opened.review})",
                "read the answers of each page by themselves",
            )
        unknown = each.answers.keys() - opened.sides.keys()
        if unknown:
            raise DataError(f"{path}: no item {min(unknown)!r}", "restore the file")
        name = each.rater.strip() or path.stem
        if name in people:
            raise DataError(
                f"{path}: {name!r} has answered in another file already",
                'give each person once, or write another name at "rater"',
            )
        people[name] = {
            item: choice if choice in ("same", "bad") else _model(choice, opened.sides[item])
            for item, choice in each.answers.items()
        }
    every = [choice for answered in people.values() for choice in answered.values()]
    result = Result(
        review=opened.review,
        run=opened.run,
        adapter=opened.adapter,
        items=len(opened.sides),
        same=opened.same,
        raters={name: count(answered.values()) for name, answered in people.items()},
        answers=count(every),
        by_item=count(_majority(people.values())),
    )
    write_text(run / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
    return result


def stored_review(run: Path) -> Result | None:
    """What people preferred in a run's folder; None without, or of an earlier adapter."""
    path = run / RESULT_FILE
    if not path.is_file():
        return None
    found = read_model(path, Result)
    return found if not found.adapter or found.adapter == adapter_of(run) else None


def _model(choice: str, adapter: Side) -> str:
    return "adapter" if choice == adapter else "base"


def _majority(people: Iterable[Mapping[str, str]]) -> list[str]:
    """For each answered item what most people chose; "same" where two choices are level."""
    votes: dict[str, Counter[str]] = {}
    for answered in people:
        for item, choice in answered.items():
            votes.setdefault(item, Counter())[choice] += 1
    found = []
    for each in votes.values():
        most = max(each.values())
        first = [choice for choice, number in each.items() if number == most]
        found.append(first[0] if len(first) == 1 else "same")
    return found


def count(choices: Iterable[str]) -> Count:
    """Decisions ("adapter", "base", "same", "bad") counted."""
    found = Counter(choices)
    wins, decided = found["adapter"], found["adapter"] + found["base"]
    share = low = high = None
    if decided:
        low, high = wilson(wins, decided)
        share = wins / decided
    return Count(
        adapter=wins,
        base=found["base"],
        same=found["same"],
        bad=found["bad"],
        share=share,
        low=low,
        high=high,
    )


def wilson(wins: int, decided: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, without correction for continuity.

    Source: Wilson, JASA 22 (1927) 209; as method 3 of Newcombe, Statist. Med. 17 (1998) 857.
    """
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    interval = binomtest(wins, decided).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def _find_key(run: Path, given: Sequence[tuple[Path, Answers]], key: Path | None) -> Key:
    if key is not None:
        return read_model(key, Key)
    folders = [run / PLACE, run, Path(), *(path.parent for path, _ in given)]
    wanted = given[0][1].review
    for path in dict.fromkeys(folder / KEY for folder in folders):
        if path.is_file() and (found := read_model(path, Key)).review == wanted:
            return found
    raise ConfigError(
        f"no {KEY} fits {given[0][0]}", "it was written beside the page: --key FOLDER/" + KEY
    )
