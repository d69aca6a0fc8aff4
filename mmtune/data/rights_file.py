"""What the rows of a run allow, kept in its folder: pages are written without the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from mmtune.config import as_yaml
from mmtune.data.dataset import Dataset
from mmtune.data.manifest import root_of
from mmtune.data.policy import POLICY_FILE, Policy, current_day
from mmtune.data.row_rights import Consent
from mmtune.system.files import write_text
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.stored import damaged, read_json_lines

RIGHTS = "rights.jsonl"  # in a run's folder: consent and licence of each row; it names rows by id
KIND = "mmtune rights of rows"  # "kind" in the first line
Stated = tuple[Consent | None, str | None]
NOTHING: Stated = (None, None)


def _nowhere(named: str) -> Path | None:
    return None


def keep_rights(folder: Path, dataset: Dataset) -> None:
    """Write what the rows of a run or of results allow, and a copy of their policy.

    Where the rows state nothing and no policy was read, nothing is written.
    """
    policy, path = dataset.policy, folder / RIGHTS
    if not policy.place and not any(row.consent or row.licence for row in dataset.rows):
        path.unlink(missing_ok=True)
        return
    root = root_of(dataset.source)
    lines: list[dict[str, Any]] = [{"format": FORMAT, "kind": KIND}]
    for row in dataset.rows:
        files = [Path(each) for each in row.files.values()]
        inside = [each.relative_to(root).as_posix() for each in files if each.is_relative_to(root)]
        stated = row.model_dump(mode="json", include={"consent", "licence"}, exclude_none=True)
        lines.append({"id": row.id, "files": inside, **stated})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(path, text, private=True)
    if policy.place and Path(policy.place).resolve() != (folder / POLICY_FILE).resolve():
        values = policy.model_dump(mode="json", exclude_defaults=True)
        write_text(folder / POLICY_FILE, as_yaml(values), private=True)


@dataclass(frozen=True)
class ShownRows:
    """Which examples of a run a page may show.

    Attributes:
        policy: judges them.
        today: the day on which consents must hold.
        by_id, by_file: what rows state.
        in_run: finds a file of the run folder. Rows whose file is there were made by mmtune, such
            as silence and synthetic voices, and belong to nobody.
    """

    policy: Policy
    today: date
    by_id: Mapping[str, Stated] = field(default_factory=dict)
    by_file: Mapping[str, Stated] = field(default_factory=dict)
    in_run: Callable[[str], Path | None] = _nowhere

    def refusal(self, example: Mapping[str, Any]) -> str | None:
        """Why an example of a comparison, or a line of its predictions, may not be shown.

        An example counts by its row and by each file of the data that it names. One of which
        nothing is known counts as one that states nothing.
        """
        stated = list(self._stated_of(example))
        if not stated and not self._is_made(example.get("row")):
            stated = [NOTHING]
        for consent, licence in stated:
            if (found := self._reason(consent, licence)) is not None:
                return found
        return None

    @property
    def hides_rows(self) -> bool:
        """Whether a row of the data may not be shown."""
        return any(self._reason(*each) is not None for each in self.by_id.values())

    def divided(
        self, examples: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """The examples that may be shown, and how many others there are by reason."""
        reasons = [self.refusal(each) for each in examples]
        counts = Counter(reason for reason in reasons if reason is not None)
        kept = [each for each, reason in zip(examples, reasons, strict=True) if reason is None]
        return kept, dict(counts)

    def _reason(self, consent: Consent | None, licence: str | None) -> str | None:
        usual = self.policy.rows
        found = self.policy.refusal(
            "show", consent or usual.consent, licence or usual.licence, self.today
        )
        return found[0] if found is not None else None

    def _is_made(self, row: object) -> bool:
        values = row.values() if isinstance(row, Mapping) else ()
        named = (each for each in values if isinstance(each, str) and "/" in each)
        return any(self.in_run(each) is not None for each in named)

    def _stated_of(self, example: Mapping[str, Any]) -> Iterator[Stated]:
        row = example.get("row")
        if isinstance(row, Mapping) and row.keys() & {"consent", "licence"}:
            yield _stated(row)
        name = row.get("id") if isinstance(row, Mapping) else example.get("id", row)
        if str(name) in self.by_id:
            yield self.by_id[str(name)]
        for value in example.values():
            if isinstance(value, str | Path) and self.by_file:
                parts = PurePath(value).parts
                tails = ("/".join(parts[at:]) for at in range(len(parts)))
                yield from (self.by_file[tail] for tail in tails if tail in self.by_file)


def read_shown_rows(
    folder: Path | None, policy: Policy, in_run: Callable[[str], Path | None] = _nowhere
) -> ShownRows:
    """Read what the rows of a run or of results allow; a run of an earlier mmtune has no record.

    Args:
        folder: of the run or the results.
        policy: that holds for them.
        in_run: finds a file of the folder by a name in the comparison.

    Raises:
        ConfigError: the record is damaged, or a newer mmtune wrote it.
    """
    by_id: dict[str, Stated] = {}
    by_file: dict[str, Stated] = {}
    path = folder / RIGHTS if folder is not None else None
    if path is not None and path.is_file():
        cure = f"restore it from a backup, or measure the run again: mmtune evaluate {folder}"
        lines = list(read_json_lines(path, cure))
        with damaged(path, cure):
            if not lines or lines[0].get("kind") != KIND:
                raise ValueError("its first line isn't that of the rights of rows")
            without_format(lines[0], path)
            for line in lines[1:]:
                stated = _stated(line)
                by_id[str(line["id"])] = stated
                by_file |= dict.fromkeys(map(str, line["files"]), stated)
    return ShownRows(policy, current_day(), by_id, by_file, in_run)


def _stated(values: Mapping[str, Any]) -> Stated:
    given = values.get("consent")
    try:
        consent = None if given is None else Consent.model_validate(given)
    except ValidationError:
        consent = Consent(until=date.min)  # damaged: it counts as ended
    licence = values.get("licence")
    return consent, None if licence is None else str(licence)
