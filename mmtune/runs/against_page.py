"""The page of two adapters that were compared, from the folder of the results."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from mmtune.config import Content, read_yaml
from mmtune.errors import ConfigError, MmtuneError
from mmtune.evaluation.comparison import COMPARISON_FILE, read_comparison
from mmtune.pages.pair import Pair
from mmtune.pages.report import PAGE, REDACTED, content_policy, write_report
from mmtune.pages.sources import require_own_files
from mmtune.runs.measured_adapter import run_of
from mmtune.runs.modalities import find_modality, play
from mmtune.runs.other_data import Evaluated, read_evaluation
from mmtune.system.locks import locked

AGAINST_FILE = "against.json"


def holds_two(folder: Path) -> bool:
    """Whether a folder holds the comparison of two adapters, and not that of a run."""
    return (folder / AGAINST_FILE).is_file() and not (folder / COMPARISON_FILE).is_file()


def write_against_page(
    folder: Path, out: Path | None = None, *, redacted: bool = False, lock: bool = True
) -> Path:
    """Write the page of two adapters, without models or data.

    Args:
        folder: of the results.
        out: the HTML file; None: `report.html` or `report-redacted.html` in the folder.
        redacted: show no items and no names of adapters.
        lock: lock the folder if the page goes there; False: the caller has done that.

    Returns:
        The path of the page.

    Raises:
        ConfigError: the results can't be read.
        Locked: the page belongs into the folder, and another command works there.
    """
    require_own_files(folder)
    page = out if out is not None else folder / (REDACTED if redacted else PAGE)
    what = read_evaluation(folder)
    if what is None or what.against is None:
        raise ConfigError(
            f"{folder} doesn't say which adapters were compared: its evaluation.json names no two",
            "repeat the comparison: mmtune evaluate A --against B --out DIR",
        )
    with locked(folder) if lock and out is None else nullcontext():
        found = read_comparison(folder, AGAINST_FILE)
        write_report(
            page,
            [found],
            [folder],
            redacted=redacted,
            play=play,
            naming=find_modality,
            pair=_pair(folder, what),
        )
    return page


def _pair(folder: Path, what: Evaluated) -> Pair:
    adapter, _, other = what.paths(folder)
    assert other is not None
    names = [_name(adapter), _name(other)]
    if names[0] == names[1]:
        places = [adapter.resolve(), other.resolve()]
        names = [f"{place.parent.name}/{place.name}" for place in places]
    if names[0] == names[1]:
        names = ["A", "B"]
    base = str(read_yaml(folder / "config.yaml").get("base") or "")
    bases = (base, what.other_base) if what.other_base else None
    return Pair(names[0], names[1], bases, _policy_of(other))


def _name(adapter: Path) -> str:
    return (run_of(adapter) or adapter).resolve().name


def _policy_of(adapter: Path) -> Content:
    """The policy of an adapter's run; that of the results holds too, in case the run is gone."""
    run = run_of(adapter) or adapter
    try:
        return content_policy(run)
    except MmtuneError:  # it can't be read: show nothing
        return "none"
