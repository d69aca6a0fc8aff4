"""Evaluate people's answers on a review page: the adapter's share of preferences.

The share has a Wilson interval (Wilson 1927; Newcombe 1998).
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
from mmtune.system.locks import locked

RESULT_FILE = "review.json"


class Count(Record):
    """Numbers of decisions, and the adapter's share of those for a side, with a 95 % interval."""

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
    """The result of a review (`review.json` in the run folder).

    Attributes:
        review: id of the page.
        run: name of the run.
        adapter: hash of the adapter's weights.
        items: number of pairs on the page.
        same: number of pairs that were left out, because base and adapter gave the same.
        raters: each person's decisions.
        answers: all decisions together. With several people the interval is too narrow, because
            answers on one pair aren't independent.
        by_item: the majority's decision on each pair; a tie counts as "same". This is the result.
        created: time of the evaluation.
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
        """The result as a sentence, without the run's name."""
        found = self.by_item
        people = "1 person" if len(self.raters) == 1 else f"{len(self.raters)} people"
        if found.share is None:
            return f"{people} answered, but no pair was decided"
        verdict = "no clear preference"
        if found.low is not None and found.low > 0.5:
            verdict = "the adapter is preferred"
        elif found.high is not None and found.high < 0.5:
            verdict = "the base is preferred"
        return (
            f"adapter better in {found} of {found.adapter + found.base} decided pairs "
            f"({people}): {verdict}"
        )

    @property
    def headline(self) -> str:
        """The result in one line, for the terminal."""
        return f"review   {self.run}   {self.sentence}"

    @property
    def table(self) -> tuple[tuple[str, ...], ...]:
        """Header and rows of the table for the terminal and the report."""
        head = ("", "adapter better", "base better", "same", "both bad", "adapter's share")
        named = [*self.raters.items()]
        if len(named) > 1:
            named += [("all answers", self.answers), ("majority per pair", self.by_item)]
        lines = [
            (name, *(str(v) for v in (c.adapter, c.base, c.same, c.bad)), str(c))
            for name, c in named
        ]
        return (head, *lines)


def read_review(run: Path, answers: Sequence[Path], key: Path | None = None) -> Result:
    """Unblind people's answers, count them, and write `review.json` into the run folder.

    Args:
        run: the run folder.
        answers: answer files, one per person.
        key: the page's key; None: the matching key in the run's `review/`, in the run folder, in
            the current folder, or beside an answer file.

    Raises:
        ConfigError: no key matches, or it belongs to another run or to an earlier adapter.
        DataError: a file can't be read as answers, answers another page, or repeats a person.
        Locked: another command works in the run folder.
    """
    run = run.resolve() if run.name in {"", ".."} else run
    if not run.is_dir():
        raise ConfigError(f"no such run folder: {run}", "give a run folder: runs/NAME")
    given = [(path, read_model(path, Answers)) for path in answers]
    opened = _find_key(run, given, key)
    if opened.adapter and opened.adapter != adapter_of(run):
        raise ConfigError(
            f"the adapter in {run} has changed since the page was written",
            "write a new page: mmtune review RUN",
        )
    people: dict[str, dict[str, str]] = {}
    for path, each in given:
        if each.review != opened.review:
            raise DataError(
                f"{path} answers another page ({each.review}, not {opened.review})",
                "read the answers of each page in a separate command",
            )
        unknown = each.answers.keys() - opened.sides.keys()
        if unknown:
            raise DataError(
                f"{path}: the page has no item {min(unknown)!r}",
                "use the file as the page saved it",
            )
        name = each.rater.strip() or path.stem
        if name in people:
            raise DataError(
                f"{path}: another file already holds the answers of {name!r}",
                'give one file per person, or change the name at "rater" in the file',
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
    with locked(run):
        write_text(run / RESULT_FILE, result.model_dump_json(indent=2) + "\n", private=True)
    return result


def stored_review(run: Path) -> Result | None:
    """Read the review's result in a run folder; None if missing or for an earlier adapter."""
    path = run / RESULT_FILE
    if not path.is_file():
        return None
    found = read_model(path, Result)
    return found if not found.adapter or found.adapter == adapter_of(run) else None


def _model(choice: str, adapter: Side) -> str:
    return "adapter" if choice == adapter else "base"


def _majority(people: Iterable[Mapping[str, str]]) -> list[str]:
    """Find the majority's choice for each answered item; a tie gives "same"."""
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
    """Count decisions ("adapter", "base", "same", "bad")."""
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
    """Compute Wilson's score interval of a proportion, without continuity correction.

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
        f"no {KEY} matches {given[0][0]}",
        f"give the key that was written beside the page: --key FOLDER/{KEY}",
    )
