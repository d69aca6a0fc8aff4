"""The functions of `import mmtune` that all modalities share; the commands call them too.

They print nothing and never exit. A problem that the user can solve raises an `MmtuneError`. Paths
are `str` or `Path`. Slow libraries are imported only when they are needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pydantic import ValidationError

from mmtune.config import RunConfig, Section
from mmtune.errors import ConfigError
from mmtune.runs import recipes
from mmtune.runs.modalities import MODALITIES, find_modality, guess_modality
from mmtune.system.progress import counted, progress_console, shows_progress
from mmtune.system.quiet import public_call

if TYPE_CHECKING:
    from mmtune.adapters.compose import Composed
    from mmtune.adapters.exported import Exported
    from mmtune.adapters.members import Mixing
    from mmtune.adapters.routing import Routed
    from mmtune.data.dataset import Dataset
    from mmtune.data.importing import Imported
    from mmtune.modality import Modality
    from mmtune.predict import Predictor
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
    progress: bool | None = None,
    **settings: Any,
) -> Dataset:
    """Find the rows of a manifest or folder that training can't use.

    Args:
        source: a manifest.jsonl, or a folder of files.
        modality: the modality's name; None: recognised from the content.
        terms: a term list; texts that spell a term differently are reported.
        base: the base model; captions that it would cut off are reported.
        strict: raise an error if training would refuse the data; otherwise all problems are in
            `Dataset.findings`.
        progress: show a progress bar; None: only in a terminal and in Jupyter.
        settings: settings of the modality, such as `resolution=1024` for images.

    Raises:
        ConfigError: `source` doesn't exist, or the modality has no such setting.
        DataError: the source can't be used at all. With `strict` also: too many rows have errors.
    """
    from mmtune.data import check as data

    path = Path(source)
    if not path.exists():
        raise ConfigError(f"no such file or folder: {path}", "give a manifest.jsonl or a folder")
    known = find_modality(modality) if modality is not None else guess_modality(path)
    options = _task_settings(known, base, settings)
    with counted("opening files", progress) as count:
        return data.check(
            path,
            known,
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
        layout: the format's name, such as `table`; None: recognised from the content.
        settings: settings of the import, such as `language="de"`, `speakers="agent=0,customer=1"`,
            `align=True` and `base=…`.

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
    return fitting[0].import_data(path, Path(to), layout, settings)


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
    try:
        with RichReporter(progress_console()) if watched else nullcontext() as reporter:
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
) -> Evaluation:
    """Measure a finished run again, apply a suite to it, and write its report.

    Args:
        run: a run folder.
        suite: the suite to use from now on, a name or a file; None: the run's own.
        fresh: ignore stored answers and run the models again.
        data: held-out calls with transcripts, which are heard from beginning to end (the setting
            `task.calls`); None: the run's own, if it has any.
        speakers: channels of the calls' speakers: "agent=0,customer=1".

    Raises:
        ConfigError: the run isn't finished, the suite can't be used, or the run has no such data.
        DataError: the run's data is missing.
    """
    from mmtune.evaluation.verdict import read_verdict
    from mmtune.runs import pipeline

    config = recipes.load_run(Path(run))
    given: dict[str, Any] = {} if data is None else {"calls": Path(data)}
    given |= {} if speakers is None else {"call_speakers": speakers}
    if unknown := sorted(given.keys() - type(config.task).model_fields):
        raise ConfigError(
            f"{run} has no setting {unknown[0]}: its data holds no calls", "leave --data out"
        )
    task = config.task.model_copy(update=given)
    config = config.model_copy(update={"task": task})
    comparison = pipeline.evaluate(config, suite, fresh)
    return pipeline.Evaluation(
        folder=config.folder, comparison=comparison, verdict=read_verdict(config.folder)
    )


@public_call("report")
def report(
    runs: PathLike | Sequence[PathLike], out: PathLike | None = None, *, redacted: bool = False
) -> Path:
    """Write the report of finished runs from stored measurements, without loading a model.

    Args:
        runs: one run folder, or several for one page.
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
        run: a run folder, finished or not, an adapter folder, or a route folder.

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


@overload
def compose(
    adapters: Mapping[str, float] | Mapping[Path, float],
    *,
    out: PathLike,
    method: str | None = None,
    density: float | None = None,
    rank: int | None = None,
    seed: int | None = None,
    route: None = None,
    base: str | None = None,
    compare: bool | PathLike = False,
) -> Composed: ...
@overload
def compose(
    adapters: None = None,
    *,
    out: PathLike,
    route: PathLike,
    base: str | None = None,
    compare: bool | PathLike = False,
) -> Routed: ...
@public_call("compose")
def compose(
    adapters: Mapping[str, float] | Mapping[Path, float] | None = None,
    *,
    out: PathLike,
    method: str | None = None,
    density: float | None = None,
    rank: int | None = None,
    seed: int | None = None,
    route: PathLike | None = None,
    base: str | None = None,
    compare: bool | PathLike = False,
) -> Composed | Routed:
    """Merge adapters of one base into one, or write a route that selects adapters by label.

    Args:
        adapters: run folders or adapter folders with their weights; a negative weight subtracts.
        out: a folder that doesn't exist yet.
        method: "cat" (the default; exact), "svd", "linear", "ties", "dare_linear", "dare_ties" or
            "magnitude_prune".
        density: share of the values that "ties", DARE and "magnitude_prune" keep (default: 0.5).
        rank: rank of the result of "svd"; None: the largest rank of the adapters.
        seed: random seed for the values that DARE drops (default: 0).
        route: instead of `adapters`, a YAML file that names an adapter for each label.
        base: the base model; None: the base that the adapters name.
        compare: measure each adapter alone, all together and merged. True: on each run's own test
            items; a path: on that manifest.

    Raises:
        ConfigError: the method is unknown, a setting is impossible, or `out` exists.
        AdapterError: the adapters don't fit each other, or this method can't merge them.
    """
    from mmtune.adapters.routing import write_route
    from mmtune.runs.adapters import compose as merge

    place, weights = Path(out), {Path(path): float(w) for path, w in (adapters or {}).items()}
    data = None if isinstance(compare, bool) else Path(compare)
    if data is not None and not data.exists():
        raise ConfigError(f"--compare: no such file or folder: {data}", "give a manifest.jsonl")
    mixing = _mixing(method, density, rank, seed)
    done: Composed | Routed
    if route is not None:
        if weights or method or rank is not None:
            raise ConfigError(
                "--route can't be combined with adapters, --method or --rank: the route's file "
                "names the adapters, and nothing is merged",
                "leave out the adapters, --method and --rank",
            )
        done = write_route(Path(route), place, base=base)
    else:
        done = merge(weights, mixing, place, base=base)
    if compare is False:
        return done
    from mmtune.runs.try_ways import test_sets_of, try_out, ways_of

    with tempfile.TemporaryDirectory() as scratch:
        asked = ways_of(place, weights, mixing, Path(scratch))
        table = try_out(asked, test_sets_of(asked, data))
    return replace(done, comparison=table, notes=tuple(asked.notes))


def _mixing(
    method: str | None, density: float | None, rank: int | None, seed: int | None
) -> Mixing:
    """Check how adapters are merged; a setting that the method doesn't use is an error."""
    from mmtune.adapters.members import DENSITY, METHODS, Mixing, check_mixing

    chosen = method or "cat"
    pruning = [name for name, each in METHODS.usable() if each.prunes]
    drawing = [name for name, each in METHODS.usable() if each.random]
    for name, value, methods in (("density", density, pruning), ("seed", seed, drawing)):
        if value is not None and chosen not in methods:
            raise ConfigError(
                f"--{name} has no effect with --method {chosen}",
                f"leave it out, or use --method {' or '.join(methods)}",
            )
    mixing = Mixing(chosen, DENSITY if density is None else density, rank, seed or 0)
    check_mixing(mixing)
    return mixing


@public_call("export")
def export(
    run: PathLike,
    format: str,
    out: PathLike,
    *,
    base: str | None = None,
    scale: float = 1.0,
    precision: str = "",
    check: PathLike | None = None,
    accept_licence: str = "",
) -> Exported:
    """Export a run's adapter for other programs, and check that it gives the same results.

    Args:
        run: a run folder, or its adapter/ folder.
        format: for speech "transformers", "ctranslate2" or "ggml"; for images "diffusers", "kohya"
            or "fused".
        out: a file or folder that doesn't exist yet.
        base: the base model; None: the base that the adapter names.
        scale: factor on the adapter's strength.
        precision: "fp32", "bf16", "fp16" or "int8"; "": the format's default.
        check: speech on which export and adapter must score the same.
        accept_licence: accept a base's licence that restricts its use, by the licence's name.

    Returns:
        The path of the export, and the comparison with the adapter. If `failed` isn't empty,
        nothing is at `out`; the export then lies beside it under a name that ends in `.failed`.

    Raises:
        ConfigError: the format is unknown, the scale is wrong, or `out` exists.
        AdapterError: there is no adapter, the format can't hold it, or the licence forbids it.
    """
    from mmtune.runs import adapters

    spoken = Path(check) if check is not None else None
    if spoken is not None and not spoken.exists():
        raise ConfigError(f"--check: no such file or folder: {spoken}", "give a manifest.jsonl")
    return adapters.export(
        Path(run),
        format,
        Path(out),
        base=base,
        scale=scale,
        precision=precision,
        check=spoken,
        accept=accept_licence,
    )


@public_call("open_predictor")
def open_predictor(adapter: PathLike, *, base: str | None = None) -> Predictor:
    """Load an adapter on its base, to answer requests (`mmtune.predict.Request`).

    Args:
        adapter: a run folder, its adapter/ folder, or a folder that `compose(route=…)` wrote. A
            single adapter has the name "adapter"; requests give its weight.
        base: the base model; None: the base that the adapter names.

    Raises:
        AdapterError: there is no adapter, it doesn't fit the base, or it has no effect.
    """
    from mmtune.runs import adapters

    return adapters.open_predictor(Path(adapter), base=base)
