"""Settings of a run: defaults of the recipe < a YAML file < the command line; all frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from mmtune.errors import ConfigError, did_you_mean


class Section(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraOptions(Section):
    """The adapter (LoRA, arXiv 2106.09685).

    `rslora` scales by alpha / sqrt(rank) (arXiv 2312.03732); `dora` also learns each weight row's
    magnitude (arXiv 2402.09353), so that scale 0 is not the base.
    """

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ()  # names of the adapted modules; empty: the recipe's own choice


class TrainOptions(Section):
    """The loop. `batch_size` counts the rows of one optimizer step over all processes."""

    epochs: Annotated[int, Field(ge=1)] = 4
    max_steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    micro_batch: Annotated[int, Field(ge=1)] | None = None  # rows per forward; None: all at once
    # Compute what lies between the layers again in the backward pass and don't keep it (arXiv
    # 1604.06174): less memory, more time, the same result.
    gradient_checkpointing: bool = False
    lr: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"] = (
        "cosine"
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # share of the steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] | None = 1.0  # largest gradient norm
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    validate_every: Annotated[int, Field(ge=1)] | None = None  # steps; None: once an epoch
    patience: Annotated[int, Field(ge=1)] | None = None  # validations without a new best
    checkpoint_every: Annotated[int, Field(ge=1)] = 50  # steps
    keep: Annotated[int, Field(ge=2)] = 2  # checkpoints: never fewer than two
    # Weights of at most so many validations are kept, and compared after training by what decides
    # the strength; 0: what was best in validation is taken.
    compare_checkpoints: Annotated[int, Field(ge=0)] = 0
    # Strengths of the adapter that are tried on validation (and retention) rows after training;
    # one alone is taken untried.
    scales: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        0.25,
        0.5,
        0.75,
        1.0,
    )
    may_lose: Annotated[float, Field(ge=0)] = 0.01  # of the validation metric on retention rows
    stop_after_bad: Annotated[int, Field(ge=1)] = 3  # skipped steps in a row
    tracker: str | None = None  # any of Accelerate's: tensorboard, wandb, mlflow …


class DataOptions(Section):
    """Where rows come from and how they are split where the manifest doesn't say."""

    path: Path | None = None  # manifest.jsonl or a folder
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    test: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.01  # share of rows that may be quarantined


Content = Literal["all", "generated", "none"]


class ReportOptions(Section):
    """The report's page.

    `content` is what it may hold of the items: "all"; "generated": what models drew, or said in
    voices of their own, alone; "none": figures. In both of these it also leaves out what names the
    data: files, captions, speakers, values of labels.
    """

    content: Content = "all"


class RunConfig(Section):
    """One run. `task` holds the settings of its modality."""

    recipe: str
    modality: str
    name: str
    base: str
    out: Path = Path("runs")
    suite: str | None = None  # the gates that say whether to ship: a name (see eval/), or a file
    cache: bool = True
    report: ReportOptions = ReportOptions()
    data: DataOptions = DataOptions()
    lora: LoraOptions = LoraOptions()
    train: TrainOptions = TrainOptions()
    task: SerializeAsAny[Section] = Section()

    @model_validator(mode="after")
    def _dora_has_no_strength(self) -> Self:
        if self.lora.dora and self.train.scales != (1.0,) and len(self.train.scales) == 1:
            raise ValueError("train.scales: DoRA acts at 1 alone, for at 0 it isn't the base")
        return self

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return self.out / self.name

    def dump(self) -> str:
        """The settings as YAML, readable by `load_config`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


# Short names of the command line: what users of peer tools type first.
ALIASES = {"data": "data.path", "batch": "train.batch_size", "steps": "train.max_steps"}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from `path`.

    Raises:
        ConfigError: the file is missing, isn't YAML or isn't a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no such file: {path}", "name a recipe or an existing .yaml file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}", "mend the line that it names") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no settings", "write `key: value` lines")
    return value


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """The type of each setting of `model`, by dotted name."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section) and kind is not Section:
            found |= leaves(kind, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = kind
    return found


def parse(text: str, kind: Any) -> Any:
    """What the command line's `text` means for a setting of a type.

    Words and paths are taken as they stand (`2024`, `#ffffff`, `my #1 folder`); all else is YAML.

    Args:
        kind: as annotated; an optional one takes "null", "~" and nothing for None.
    """
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    if all(each in {str, Path, NoneType} for each in kinds):
        return None if NoneType in kinds and text in {"", "~", "null"} else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # the type says what is wrong with it


def resolve(key: str, known: Sequence[str]) -> str:
    """The dotted name that `key` means: itself, an alias, or a unique last part.

    Raises:
        ConfigError: unknown or ambiguous, with the nearest names.
    """
    key = key.replace("-", "_")
    if key in known:
        return key
    if key in ALIASES:
        return ALIASES[key]
    ends = [name for name in known if name.rsplit(".", 1)[-1] == key]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(f"setting {key!r} is ambiguous", "use one of " + ", ".join(ends))
    raise ConfigError(f"unknown setting {key!r}", did_you_mean(key, known))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def nest(dotted: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": value}}` from "a.b"."""
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return dict(value)


def build(
    values: Mapping[str, Any],
    source: str,
    options: type[Section],
    overrides: Mapping[str, Any],
) -> RunConfig:
    """Validate settings and command-line overrides.

    Args:
        values: settings by section, from the recipe and the YAML file. `bases` holds, by name of a
            base, settings that suit it better: a learning rate for a small model ruins a large one.
        source: what an error should name (the file).
        options: the type of the section `task`: what only the run's modality has.
        overrides: what is set on top, by full or short name. Text is read as on the command line.

    Raises:
        ConfigError: a setting is unknown (with "did you mean"), missing or impossible.
    """
    kinds = {n: kind for n, kind in leaves(RunConfig).items() if n != "task"}
    kinds |= {f"task.{n}": kind for n, kind in leaves(options).items()}
    known = list(kinds)
    given = {resolve(key, known): (key, text) for key, text in overrides.items()}
    merged = {key: value for key, value in values.items() if key != "bases"}
    base = overrides.get("base", merged.get("base"))
    merged = merge(merged, (values.get("bases") or {}).get(base, {}))
    for name, (_, text) in given.items():
        merged = merge(merged, nest(name, parse(text, kinds[name])))
    merged.setdefault("name", merged.get("recipe"))
    try:
        task = options.model_validate(merged.get("task") or {})
    except ValidationError as error:
        raise _explain(error, source, known, given, "task.") from None
    try:
        return RunConfig.model_validate({**merged, "task": task})
    except ValidationError as error:
        raise _explain(error, source, known, given, "") from None


def _explain(
    error: ValidationError,
    source: str,
    known: Sequence[str],
    given: Mapping[str, tuple[str, str]],
    prefix: str,
) -> ConfigError:
    errors = [(_setting(e["loc"], known, prefix), e) for e in error.errors()]
    name, first = errors[0]
    if first["type"] == "extra_forbidden":
        return ConfigError(
            f"{source}: unknown setting {name!r}", did_you_mean(name.rsplit(".", 1)[-1], known)
        )
    if first["type"] == "missing":
        return ConfigError(
            f"{source}: setting {name!r} is missing", f"add it, or give --{name} VALUE"
        )
    # A setting of several types has an error for each of them.
    wrong = " or: ".join(e["msg"] for where, e in errors if where == name)
    if name in given:
        key, text = given[name]
        return ConfigError(f"--{key} {text} ({name}): {wrong}", "correct this value")
    return ConfigError(f"{source}: {name} = {first['input']!r}: {wrong}", "correct this value")


def _setting(place: Sequence[str | int], known: Sequence[str], prefix: str) -> str:
    # Pydantic's place goes on below the setting: an index, or the type that was tried.
    parts = [str(part) for part in place]
    ends = (prefix + ".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in ends if name in known), prefix + ".".join(parts))
