"""The functions of `import mmtune` that all modalities share; the commands call them too.

They print nothing and never exit. A problem that the user can solve raises an `MmtuneError`. Paths
are `str` or `Path`. Slow libraries are imported only when they are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mmtune.config import DataOptions, RunConfig, Section
from mmtune.errors import ConfigError
from mmtune.runs import recipes
from mmtune.runs.import_hint import importable
from mmtune.runs.measuring import set_measuring
from mmtune.runs.modalities import MODALITIES, find_modality, guess_modality
from mmtune.system.progress import counted, progress_console, shows_progress
from mmtune.system.quiet import public_call
from mmtune.system.run_folder import is_run

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.data.importing import Imported
    from mmtune.modality import Modality
    from mmtune.runs.elsewhere import Against
    from mmtune.runs.listing import Runs
    from mmtune.runs.pipeline import Evaluation, RunResult
    from mmtune.runs.repair import Repaired
    from mmtune.runs.verify import Verified

PathLike = str | Path


def load_recipe(recipe: PathLike | RunConfig, /, **settings: Any) -> RunConfig:
    """Load the settings of a run, and check and complete them.

    Args:
        recipe: a recipe's name, a YAML file, a folder with a recipe.yaml, or settings to change.
        settings: by full or short name, as nested mappings or dotted:
            `epochs=3, lora={"rank": 8}, **{"train.lr": 5e-4}`.

    Raises:
        ConfigError: no such recipe or file, or a setting is unknown, missing or impossible.
    """
    if isinstance(recipe, RunConfig):
        return recipes.configure(recipe.model_dump(mode="json"), recipe.recipe, settings)
    return recipes.load_recipe(str(recipe), settings)


@public_call("check")
def check(
    source: PathLike,
    modality: str | None = None,
    *,
    terms: PathLike | None = None,
    base: str | None = None,
    strict: bool = False,
    shared: Sequence[str] = (),
    policy: PathLike | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Dataset:
    """Find the rows of a manifest or folder that training can't use, and give them splits.

    The splits of rows that name none are kept in a file beside the data, `mmtune-splits.jsonl`.

    Args:
        source: a manifest.jsonl, or a folder of files.
        modality: the modality's name; None: recognised from the content.
        terms: a term list; texts that spell a term differently are reported.
        base: the base model; captions that it would cut off are reported.
        strict: raise an error if training would refuse the data; otherwise all problems are in
            `Dataset.findings`.
        shared: what splits may share: "speaker", "sentence", "recording", "subject".
        policy: a YAML file that says which rows may train, by consent and licence; None:
            policy.yaml beside the data, if it is there.
        progress: show a progress bar; None: only in a terminal and in Jupyter.
        settings: settings of the modality, such as `resolution=1024` for images.

    Raises:
        ConfigError: `source` doesn't exist, the policy is wrong, or the modality has no such
            setting.
        DataError: the source can't be used at all. With `strict` also: too many rows have errors.
    """
    from mmtune.data import check as data

    path = Path(source)
    if not path.exists():
        raise ConfigError(f"no such file or folder: {path}", "give a manifest.jsonl or a folder")
    with importable(path, None if modality is None else find_modality(modality)):
        known = find_modality(modality) if modality is not None else guess_modality(path)
    options = _task_settings(known, base, settings)
    with importable(path, known), counted("opening files", progress) as count:
        return data.check(
            path,
            known,
            DataOptions(shared=tuple(shared), policy=Path(policy) if policy else None),
            record=True,
            strict=strict,
            terms=Path(terms) if terms is not None else None,
            base=base,
            settings=options,
            progress=count,
        )


def _task_settings(
    modality: Modality, base: str | None, settings: Mapping[str, Any]
) -> Section | None:
    names = modality.options.model_fields
    unknown = [name for name in settings if name not in names]
    # Only a modality with a resolution is compared with a base.
    if base is not None and "resolution" not in names:
        unknown.insert(0, "base")
    if unknown:
        raise ConfigError(f"--{unknown[0]} has no effect for {modality.name} data", "leave it out")
    try:
        return modality.options.model_validate(settings) if settings else None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{name} = {first['input']!r}: {first['msg']}", "correct it") from None


@public_call("import")
def import_data(
    source: PathLike,
    to: PathLike,
    modality: str | None = None,
    *,
    layout: str | None = None,
    **settings: Any,
) -> Imported:
    """Write data of another format as a folder that can be checked and trained on.

    Args:
        source: the file or folder to import.
        to: the new folder, or that of an earlier import.
        modality: the modality's name; None: recognised from the content.
        layout: the format's name, such as `table`, or `frames` for pictures from videos; None:
            recognised from the content.
        settings: settings of the import, such as `language="de"`, `speakers="agent=0,customer=1"`,
            `align=True` and `base=…`; for frames `max_frames=20`, `min_gap=5` and `caption="…"`.

    Returns:
        The folder, the number of rows, and the items that were left out, each with its cure.

    Raises:
        ConfigError: a setting is unknown or impossible, or `to` can't be used.
        DataError: the source can't be read at all.
    """
    path = Path(source)
    if not path.exists():
        raise ConfigError(f"no such file or folder: {path}", "give the data to import")
    if modality is not None:
        fitting = [find_modality(modality)]
    else:
        fitting = [each for _, each in MODALITIES.usable() if each.recognise(path, layout)]
    if len(fitting) != 1:
        found = " or ".join(each.name for each in fitting)
        raise ConfigError(
            f"{path} may be {found}" if found else f"the format of {path} was not recognised",
            "name the modality, or another layout",
        )
    from mmtune.runs.data_versions import with_version

    done = fitting[0].import_data(path, Path(to), layout, settings)
    return with_version(done, path, fitting[0])


@public_call("train")
def train(
    recipe: PathLike | RunConfig, /, *, progress: bool | None = None, **settings: Any
) -> RunResult:
    """Train an adapter, and compare it with its base. Repeating the call resumes the run.

    Ctrl-C (in Jupyter: interrupt), SIGTERM, SIGHUP and SIGUSR1 save the run after the current step.

    Args:
        recipe: a recipe's name, a YAML file, or the result of `load_recipe`.
        progress: show progress bars and notes; None: only in a terminal and in Jupyter.
        settings: as for `load_recipe`.

    Raises:
        MmtuneError: a problem that the user can solve; the error names the cure.
        Interrupted: a signal stopped the run; it is saved, and repeating the call resumes it.
        KeyboardInterrupt: the run was stopped outside the training loop; the run folder is kept,
            and repeating the call resumes the run.
    """
    config = load_recipe(recipe, **settings)
    # Imported after the settings are read, so that a typing error is reported at once.

    from mmtune.runs import pipeline
    from mmtune.runs.rich_reporter import RichReporter

    watched = shows_progress(progress)
    start = "the base" if config.init is None else "the adapter of --init"
    try:
        with RichReporter(progress_console(), start) if watched else nullcontext() as reporter:
            return pipeline.train(config, reporter)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {config.folder} keeps the run up to its last checkpoint, and repeating the "
            "call resumes it"
        ) from None


@public_call("evaluate")
def evaluate(
    run: PathLike,
    suite: str | None = None,
    fresh: bool = False,
    *,
    data: PathLike | None = None,
    speakers: str | None = None,
    base: str | None = None,
    against: PathLike | None = None,
    out: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation | Against:
    """Measure a finished run again, or any adapter on other data or against another adapter.

    Without `data`, `base`, `against` and `out` a run is measured again on its own test rows, in its
    own folder. With `data` that holds whole calls, they are added to that. Otherwise the results
    get a folder of their own, and rows that the adapter was trained on don't count.

    Args:
        run: a run folder; an adapter folder, also one of PEFT or diffusers without mmtune's card;
            or a folder of earlier results.
        suite: the suite to judge by, a name or a file; None: the run's own. A run that is measured
            again keeps it.
        fresh: ignore stored answers and run the models again.
        data: a manifest or folder with references, of which all rows are measured, or those whose
            split is test; or held-out calls with transcripts, which are heard from beginning to
            end (the setting `task.calls`). None: the run's own test rows.
        speakers: channels of the calls' speakers: "agent=0,customer=1".
        settings: settings of the comparison, by name: `{"retention": "general",
            "retention_rows": 300}`. A run that is measured again uses them from now on; results in
            a folder of their own may have any settings of a recipe.
        base: the base model; None: the one that the adapter names.
        against: another adapter or run: both answer the same rows, and get a page. Adapters for
            speech may have different bases.
        out: the folder of the results; None: `evaluations/` in the run folder, or a folder beside
            the adapter.

    Returns:
        The comparison with the base and its verdict; with `against`, or of the results of such a
        call, the comparison of both adapters, in which the other one stands in the base's place.

    Raises:
        ConfigError: the run isn't finished, the suite or a setting can't be used, or an argument
            has no effect with the others.
        DataError: the data is missing or can't be used, or no row is left.
        AdapterError: an adapter is damaged, or doesn't fit the base.
    """
    from mmtune.runs.elsewhere import evaluate_against, evaluate_on
    from mmtune.runs.other_data import read_evaluation

    path, given = Path(run), dict(settings or {})
    place, other = (Path(each) if each is not None else None for each in (data, against))
    results = Path(out) if out is not None else None
    if (earlier := read_evaluation(path)) is not None and not (place or other or results):
        results, base, given = path, base or earlier.base, earlier.settings | given
        path, place, other = earlier.paths(path)
    elsewhere = bool(base or other or results) or not is_run(path)
    if speakers is not None and elsewhere:
        raise ConfigError(
            "--speakers belongs to calls, which are measured in the run folder, with its base",
            "give a run folder without --base, --against and --out; or leave out --speakers",
        )
    if not elsewhere and (place is None or speakers is not None or _holds_calls(path, place)):
        return _evaluate_run(path, suite, fresh, place, speakers, given)
    if other is None:
        return evaluate_on(path, place, suite, fresh, base=base, out=results, settings=given)
    if suite is not None:
        raise ConfigError(
            "--suite has no effect with --against: gates compare an adapter with its base",
            "leave it out, or measure each adapter by itself",
        )
    return evaluate_against(path, other, place, fresh, base=base, out=results, settings=given)


def _holds_calls(run: Path, data: Path) -> bool:
    """Whether a run folder's modality takes the data for calls, which its own comparison hears."""
    return find_modality(recipes.load_run(run).modality).is_calls(data)


def _evaluate_run(
    run: Path,
    suite: str | None,
    fresh: bool,
    calls: Path | None,
    speakers: str | None,
    settings: Mapping[str, Any],
) -> Evaluation:
    """Measure a run again on its own test rows, perhaps with calls."""
    from mmtune.evaluation.verdict import read_verdict
    from mmtune.runs import pipeline

    config = set_measuring(recipes.load_run(run), settings)
    given: dict[str, Any] = {} if calls is None else {"calls": calls}
    given |= {} if speakers is None else {"call_speakers": speakers}
    if unknown := sorted(given.keys() - type(config.task).model_fields):
        raise ConfigError(
            f"{run} has no setting {unknown[0]}: its data holds no calls",
            "leave --data and --speakers out",
        )
    task = config.task.model_copy(update=given)
    if speakers is not None and getattr(task, "calls", None) is None:
        raise ConfigError(
            "--speakers names the channels of calls, but there are no calls", "add --data CALLS"
        )
    config = config.model_copy(update={"task": task})
    comparison = pipeline.evaluate(config, suite, fresh, settings)
    return pipeline.Evaluation(
        folder=config.folder, comparison=comparison, verdict=read_verdict(config.folder)
    )


@public_call("report")
def report(
    runs: PathLike | Sequence[PathLike], out: PathLike | None = None, *, redacted: bool = False
) -> Path:
    """Write the report of finished runs from stored measurements, without loading a model.

    Args:
        runs: one run folder, or several for one page; or the results of `evaluate` with `against`.
        out: the HTML file; None: a file in the run folder, for a single run only.
        redacted: show figures only: no recording, transcript, caption, image or name.

    Returns:
        The path of the page.

    Raises:
        ConfigError: a run isn't finished, or there are several runs and no `out`.
    """
    from mmtune.runs import pipeline

    folders = []
    for given in [runs] if isinstance(runs, (str, Path)) else runs:
        folder = Path(given)
        if not folder.is_dir():
            raise ConfigError(f"no such run folder: {given}", "give a run folder: runs/NAME")
        folders.append(folder.resolve() if folder.name in {"", ".."} else folder)
    page = Path(out) if out is not None else None
    return pipeline.report(folders, page, redacted=redacted)


@public_call("verify")
def verify(run: PathLike) -> Verified:
    """Check the files of a run: whether each can be read, and holds what was written.

    Nothing is changed, and no model is loaded. `Verified.damaged` has the damaged files.

    Args:
        run: a run folder, finished or not, an adapter folder, a route folder, or an adapter of
            another program.

    Raises:
        ConfigError: `run` is none of these.
    """
    from mmtune.runs import verify as verifying

    return verifying.verify(Path(run))


@public_call("repair")
def repair(run: PathLike) -> Repaired:
    """Restore a run's damaged adapter from its checkpoint; remove damaged answers and figures.

    The adapter needs the run's data and base to be restored. Nothing is trained and nothing is
    measured: `evaluate` measures again what was removed.

    Args:
        run: a run folder.

    Raises:
        ConfigError: `run` is not a run folder.
    """
    from mmtune.runs import repair as repairing

    return repairing.repair(Path(run))


@public_call("runs")
def list_runs(folder: PathLike = "runs") -> Runs:
    """List runs with the settings that differ between them, the main figure and the verdict.

    A damaged run is listed with the reason. No model is loaded.

    Args:
        folder: holds run folders; or one run folder.

    Raises:
        ConfigError: the folder is missing or holds no run.
    """
    from mmtune.runs import listing

    return listing.list_runs(Path(folder))
