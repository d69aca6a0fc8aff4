"""The functions of `import mmtune` for finished adapters: compose, export, open_predictor, push.

They print nothing and never exit, as those of `mmtune.runs.public_functions`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

from mmtune.errors import ConfigError
from mmtune.runs.public_functions import PathLike
from mmtune.system.quiet import public_call

if TYPE_CHECKING:
    from mmtune.adapters.compose import Composed
    from mmtune.adapters.exported import Exported
    from mmtune.adapters.members import Mixing
    from mmtune.adapters.routing import Routed
    from mmtune.predict import Predictor
    from mmtune.runs.push import Pushed


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
        adapters: run folders, adapter folders or adapters of other programs, with their weights; a
            negative weight subtracts.
        out: a folder that doesn't exist yet.
        method: "cat" (the default; exact), "svd", "linear", "ties", "dare_linear", "dare_ties" or
            "magnitude_prune".
        density: share of the values that "ties", DARE and "magnitude_prune" keep (default: 0.5).
        rank: rank of the result of "svd"; None: the largest rank of the adapters.
        seed: random seed for the values that DARE drops (default: 0).
        route: instead of `adapters`, a YAML file that names an adapter for each label.
        base: the base model; None: the base that the adapters name.
        compare: measure each adapter alone, all together and merged. True: on each run's own test
            items; a path: on all rows of that manifest, or on those whose split is test.

    Raises:
        ConfigError: the method is unknown, a setting is impossible, or `out` exists.
        AdapterError: the adapters don't fit each other, or this method can't merge them.
    """
    from mmtune.adapters.adopt import own_forms
    from mmtune.adapters.routing import write_route
    from mmtune.runs.adapters import compose as merge
    from mmtune.runs.foreign_adapters import convert

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
        done = write_route(Path(route), place, base=base, convert=convert)
    else:
        weights = own_forms(weights, base, convert)
        done = merge(weights, mixing, place, base=base)
    if compare is False:
        return done
    from mmtune.runs.try_ways import test_sets_of, try_out, ways_of

    with tempfile.TemporaryDirectory() as scratch:
        asked = ways_of(place, weights, mixing, Path(scratch))
        test_sets = test_sets_of(asked, data)
        table = try_out(asked, test_sets)
    notes = (*asked.notes, *(each.note for each in test_sets if each.note))
    return replace(done, comparison=table, notes=notes)


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
    scale: float | None = None,
    precision: str = "",
    check: PathLike | None = None,
    accept_licence: str = "",
) -> Exported:
    """Export a run's adapter for other programs, and check that it gives the same results.

    Args:
        run: a run folder, its adapter/ folder, or an adapter of another program.
        format: for speech "transformers", "ctranslate2" or "ggml"; for images "diffusers", "kohya"
            or "fused".
        out: a file or folder that doesn't exist yet.
        base: the base model; None: the base that the adapter names.
        scale: factor on the adapter's strength; None: the strength at which it was judged.
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
        adapter: a run folder, its adapter/ folder, a folder that `compose(route=…)` wrote, or an
            adapter of another program. A single adapter has the name "adapter"; requests give its
            weight.
        base: the base model; None: the base that the adapter names.

    Raises:
        AdapterError: there is no adapter, it doesn't fit the base, or it has no effect.
    """
    from mmtune.runs import adapters

    return adapters.open_predictor(Path(adapter), base=base)


@public_call("push")
def push(
    run: PathLike,
    repository: str,
    *,
    base: str | None = None,
    private: bool = True,
    anyway: bool = False,
    dry: bool = False,
    accept_licence: str = "",
) -> Pushed:
    """Upload a run's adapter with its model card to the Hugging Face hub; see `mmtune.runs.push`.

    Args:
        run: a run folder, or an adapter folder that mmtune wrote.
        repository: "owner/name" on the hub.
        base: the base's id on the hub; None: the one that the adapter names.
        private: make a new repository private; an existing one must then be private.
        anyway: also where the verdict is against the adapter, or its base is a starter.
        dry: upload nothing, and say what would be uploaded.
        accept_licence: accept a base's licence that restricts its use, by the licence's name.

    Raises:
        ConfigError: the verdict is against the adapter, the base isn't on the hub, there is no
            token, or the repository can't be used.
        AdapterError: there is no adapter, or the upload failed.
    """
    from mmtune.runs.push import push as upload

    return upload(
        Path(run),
        repository,
        base=base,
        private=private,
        anyway=anyway,
        dry=dry,
        accept=accept_licence,
    )
