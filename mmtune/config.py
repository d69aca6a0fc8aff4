"""Settings of a run: defaults of the recipe < a YAML file < the command line; all frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from mmtune.errors import ConfigError
from mmtune.methods import METHODS, Method, MethodName
from mmtune.settings.declare import setting, settings_of
from mmtune.settings.yaml_text import dump_yaml, load_yaml

MAX_RANK = 8_192  # far above any useful one; a typing error shouldn't fill the memory
MAX_SEED = 2**32 - 1  # what all generators of random numbers take
MAX_YAML = 10 * 2**20  # bytes
PARENT = "parent"  # in a run's folder: a copy of the adapter that it starts from
Content = Literal["all", "generated", "none"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Optimizer = Literal["adamw", "adafactor", "lion", "prodigy", "adamw_8bit"]
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"]


class Section(BaseModel):
    """Base of all settings: frozen; an unknown key, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AdapterOptions(Section):
    """The kind of the adapter."""

    method: MethodName = setting(
        "lora",
        "What is trained: lora (arXiv 2106.09685), dora (LoRA with a learned length of each weight "
        "row, arXiv 2402.09353), loha (a product of two LoRAs, arXiv 2108.06098), lokr (a "
        "Kronecker product), ia3 (a factor for each output, arXiv 2205.05638), or prefix (keys and "
        "values before the text, arXiv 2101.00190; Whisper alone). docs/methods.md compares them.",
        why="LoRA is what most programs load.",
        common=True,
    )
    factor: int | None = setting(
        None,
        "Size of the smaller matrix of a Kronecker product (method lokr): larger means more "
        "weights in it and fewer in the other. Null: as square as the layer allows.",
        unit="rows",
        why="As in PEFT: it gives the fewest weights.",
        ge=2,
        le=MAX_RANK,
    )
    tokens: int = setting(
        16,
        "Length of the prefix (method prefix): keys and values in each layer of the decoder, which "
        "then has as many fewer positions for text.",
        unit="positions",
        why="Not tuned.",
        ge=1,
        le=256,
    )


# Settings of `LoraOptions` that describe an adapter: one that training starts from decides them.
LORA_SHAPE = ("rank", "alpha", "rslora", "dora", "targets")


class LoraOptions(Section):
    """The adapter's size and place. Not all methods have all of these settings."""

    rank: int = setting(
        16,
        "Size of the adapter: each adapted weight changes by a product of two matrices of this "
        "inner dimension.",
        unit="dimensions",
        why="Customary for small data sets; not tuned.",
        common=True,
        ge=1,
        le=MAX_RANK,
    )
    alpha: float = setting(
        32.0,
        "The adapter's output is multiplied by alpha / rank.",
        unit="factor times rank",
        why="Twice the rank, as in PEFT's guide to Whisper.",
        common=True,
        gt=0,
    )
    dropout: float = setting(
        0.0,
        "Share of the adapter's inputs that are set to zero at random in training.",
        unit="share",
        why="Off, because its masks depend on how a batch is divided: with it, micro_batch changes "
        "the result.",
        ge=0,
        lt=1,
    )
    rslora: bool = setting(
        False,
        "Divide alpha by the square root of rank instead of rank (arXiv 2312.03732).",
        why="Off, as in PEFT.",
    )
    dora: bool = setting(
        False,
        "Also learn the magnitude of each weight row (DoRA, arXiv 2402.09353). Scale 0 is then "
        "not the base model. The same as adapter.method dora.",
        why="Off, as in PEFT; a DoRA adapter has no strengths between off and on.",
    )
    targets: tuple[str, ...] = setting(
        (),
        "Names of the modules that get an adapter, for example q_proj,v_proj. Empty: the choice "
        "for this kind of model, usually its attention.",
        why="Empty, because module names differ between models.",
    )


class TrainOptions(Section):
    """The training loop."""

    epochs: int = setting(
        4,
        "Passes over the training rows.",
        unit="epochs",
        why="Not tuned; the recipes set their own.",
        common=True,
        ge=1,
    )
    max_steps: int | None = setting(
        None,
        "Stop after this many optimizer steps, even within an epoch. Null: epochs decides.",
        unit="optimizer steps",
        why="Off, so that the length follows the size of the data.",
        ge=1,
    )
    batch_size: int = setting(
        16,
        "Rows of one optimizer step, at most, over all processes together. Rows of different "
        "window lengths or picture sizes never share a step, so an epoch may have more steps than "
        "rows / batch_size.",
        unit="rows",
        why="Customary; not tuned. More processes change the speed and not the result.",
        common=True,
        ge=1,
    )
    micro_batch: int | None = setting(
        None,
        "Rows that go through the model at once. Lower it if memory runs out; without LoRA "
        "dropout the result stays the same. Null: the whole batch.",
        unit="rows",
        why="The whole batch at once is simplest; only memory asks for less.",
        common=True,
        ge=1,
    )
    gradient_checkpointing: bool = setting(
        False,
        "Compute activations again in the backward pass instead of storing them "
        "(arXiv 1604.06174): less memory, more time, the same result.",
        why="Off, because each step takes longer: 0.43 s became 0.81 s for SDXL (docs/scale.md).",
    )
    optimizer: Optimizer = setting(
        "adamw",
        "Optimizer, each from a library. adafactor (transformers) keeps less in memory; lion "
        "(pytorch_optimizer) wants a 3 to 10 times lower lr; prodigy (pytorch_optimizer) finds the "
        "step size itself and wants lr 1; adamw_8bit (bitsandbytes) needs an NVIDIA GPU.",
        why="AdamW is customary for LoRA, and the recipes' learning rates are for it.",
    )
    lr: float = setting(
        1e-3,
        "Learning rate at its highest, after warmup.",
        unit="step size",
        why="Not tuned; the recipes set their own.",
        common=True,
        gt=0,
    )
    schedule: Schedule = setting(
        "cosine",
        "How the learning rate changes after warmup (diffusers' schedules of these names).",
        why="Customary; not tuned.",
    )
    warmup: float = setting(
        0.05,
        "Share of all steps in which the learning rate rises from 0 to lr.",
        unit="share of the steps",
        why="Customary; not tuned.",
        ge=0,
        lt=1,
    )
    weight_decay: float = setting(
        0.0,
        "Decoupled weight decay of the optimizer.",
        unit="share per step, times lr",
        why="Off, as in transformers; not tuned.",
        ge=0,
    )
    clip: float | None = setting(
        1.0,
        "Gradients with a larger norm than this are scaled down to it. Null: never.",
        unit="gradient norm",
        why="As in transformers (max_grad_norm).",
        gt=0,
    )
    balance: str | None = setting(
        None,
        "Label of the rows, such as accent, whose values get equal numbers of rows in each epoch: "
        "rows of small groups are repeated, up to 20 times, and rows of large groups take turns. "
        "Rows without the label are seen once. Null: each row is seen once.",
        why="Off: the data's own proportions are usually those of later use, and repeated rows of "
        "a few speakers are easily learned by heart.",
        min_length=1,
    )
    seed: int = setting(
        0,
        "Seed of everything that is drawn at random: order of rows, noise, dropout, augmentation.",
        unit="seed",
        why="Fixed, so that a repeated run gives the same result.",
        ge=0,
        le=MAX_SEED,
    )
    precision: Precision = setting(
        "auto",
        "Number format of the computation. auto: bf16 where the hardware multiplies it, fp16 on "
        "older GPUs, else fp32.",
        why="bf16 without hardware for it can be many times slower than fp32 (docs/scale.md).",
    )
    validate_every: int | None = setting(
        None,
        "Optimizer steps between two validations. Null: one validation after each epoch.",
        unit="optimizer steps",
        why="Customary; a validation decodes or draws, which takes time.",
        ge=1,
    )
    patience: int | None = setting(
        None,
        "Stop after this many validations in a row without a better one. Null: never stop early.",
        unit="validations",
        why="Off: the best weights are kept in any case.",
        ge=1,
    )
    checkpoint_every: int = setting(
        50,
        "Optimizer steps between two checkpoints. A stopped run resumes at the last one.",
        unit="optimizer steps",
        why="Not tuned: LoRA weights are small, so checkpoints cost little.",
        ge=1,
    )
    keep: int = setting(
        2,
        "Newest checkpoints that stay on disk.",
        unit="checkpoints",
        why="Two is the fewest allowed: if the last one is damaged, the one before is used.",
        ge=2,
    )
    compare_checkpoints: int = setting(
        0,
        "Validations whose weights are kept, evenly apart, and compared after training. "
        "0: the weights that were best in validation are taken.",
        unit="validations",
        why="Off, because each comparison decodes or draws the validation rows again.",
        ge=0,
    )
    scales: tuple[Annotated[float, Field(gt=0)], ...] = setting(
        (0.25, 0.5, 0.75, 1.0),
        "Strengths of the adapter to compare after training. A single one is used without "
        "comparing.",
        unit="factor of the adapter's output",
        why="Quarters of the trained strength: a weaker adapter may lose less of what the base "
        "can do. Not tuned.",
        min_length=1,
    )
    may_lose: float = setting(
        0.01,
        "How much worse than the base the retention rows may become; stronger settings are "
        "rejected.",
        unit="the validation metric",
        why="Not tuned; of word error rate it is one point.",
        ge=0,
    )
    stop_after_bad: int = setting(
        3,
        "Stop with an error after this many steps in a row whose loss or gradient is NaN or Inf.",
        unit="skipped optimizer steps",
        why="Not tuned: a single bad batch is skipped, and a model that diverged is noticed soon.",
        ge=1,
    )
    tracker: str | None = setting(
        None,
        "Also log to one of Accelerate's trackers: tensorboard, wandb, mlflow, trackio and others "
        "(docs/trackers.md).",
        why="Off: the run folder has log.jsonl, and trackers are packages of their own.",
    )
    tracker_samples: bool = setting(
        True,
        "Also log samples of each validation to the tracker: pictures drawn, or recordings with "
        "what was heard.",
        why="On: a tracker is asked for by name. Off keeps texts, voices and pictures from a "
        "tracker on another machine.",
    )


class DataOptions(Section):
    """The rows, and how they are split where the manifest does not say."""

    path: Path | None = setting(
        None,
        "Data to train on: a manifest.jsonl, or a folder.",
        why="Nobody else can know it; some recipes make their own data.",
        common=True,
        harmless="The run folder records the fingerprint of the rows.",
    )
    validation: float = setting(
        0.1,
        "Share of the rows without a split that choose the best weights.",
        unit="share of the rows",
        why="Customary.",
        ge=0,
        lt=1,
    )
    test: float = setting(
        0.1,
        "Share of the rows without a split that measure the result and are never trained on.",
        unit="share of the rows",
        why="Customary.",
        ge=0,
        lt=1,
    )
    shared: tuple[str, ...] = setting(
        (),
        "What rows of different splits may have in common: speaker, sentence, recording, subject.",
        why="A result on a trained speaker or sentence doesn't hold for others.",
    )
    policy: Path | None = setting(
        None,
        "Policy of consent and licence: which rows may train, be measured, be shown and be "
        "exported (docs/governance.md). Null: policy.yaml beside the data, if it is there.",
        why="Only the team can know what its people agreed to.",
        harmless="The run folder records the rows that it admitted, and keeps a copy.",
    )
    max_bad: float = setting(
        0.01,
        "Share of the rows that may be unusable and set aside; with more, training refuses to "
        "start.",
        unit="share of the rows",
        why="Not tuned: a few bad files are normal, and many mean that a path or format is wrong.",
        ge=0,
        le=1,
    )


class ReportOptions(Section):
    """The report's page."""

    content: Content = setting(
        "all",
        "What the report shows of your data. all: everything; generated: only what models drew or "
        "said in synthetic voices; none: figures alone. The last two also leave out file names, "
        "captions, speakers and label values.",
        why="Whoever trains has the data already; mmtune report --redacted writes a page to share.",
    )


class RunConfig(Section):
    """The run."""

    recipe: Annotated[
        str, setting(..., "Name of the recipe that the settings belong to; the run's default name.")
    ]
    modality: Annotated[
        str, setting(..., "Kind of the data; it decides which settings the section task has.")
    ]
    name: Annotated[
        str,
        setting(
            ...,
            "Name of the run: it writes into OUT/NAME. Default: the recipe's name.",
            common=True,
        ),
    ]
    base: Annotated[
        str,
        setting(
            ...,
            "Base model to adapt: starter:NAME, a folder, a Hugging Face id, or for images one "
            ".safetensors file of Stable Diffusion 1.x, 2.x or XL.",
            common=True,
            file=True,
            harmless="The run folder records the hash of its weights.",
        ),
    ]
    init: Path | None = setting(
        None,
        "Adapter that training starts from: a run, an adapter folder, or an adapter of another "
        "program (docs/adapters.md). Its base, rank, alpha, kind and layers hold, unless they are "
        "given beside it. Null: training starts from the base.",
        why="Off: most runs start from the base.",
        common=True,
    )
    base_config: str | None = setting(
        None,
        "Folder of a diffusers pipeline that describes a base which is a single file: its "
        "configurations and tokenizers are read, its weights are not. It becomes a part of the "
        "base's name: FILE.safetensors@FOLDER. Null: mmtune's own description of the kind that the "
        "file is of.",
        why="mmtune describes Stable Diffusion 1.x, 2.x and XL; only models with other layers need "
        "a folder.",
        file=True,
        harmless="The hash of the base that the run folder records depends on it.",
    )
    out: Path = setting(
        Path("runs"),
        "Folder that run folders are in.",
        why="Customary.",
        common=True,
        harmless="The run writes there.",
    )
    suite: str | None = setting(
        None,
        "Gates that decide whether to ship the adapter: the name of a suite (see eval/), or a "
        "YAML file.",
        why="None, because gates differ by purpose; each recipe names its own.",
        file=True,
        harmless="It changes nothing that is trained, and the run folder keeps a copy.",
    )
    cache: bool = setting(
        True,
        "Store what the frozen layers below the adapter compute, once for each row.",
        why="On: each epoch after the first skips these layers, with the same result.",
    )
    report: ReportOptions = ReportOptions()
    data: DataOptions = DataOptions()
    adapter: AdapterOptions = AdapterOptions()
    lora: LoraOptions = LoraOptions()
    train: TrainOptions = TrainOptions()
    task: SerializeAsAny[Section] = Section()

    @property
    def method(self) -> Method:
        """How the adapter is trained; `lora.dora` is another spelling of `adapter.method` dora."""
        return METHODS["dora" if self.lora.dora else self.adapter.method]

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return self.out / self.name

    @property
    def parent(self) -> Path | None:
        """Where the run keeps a copy of the adapter that it starts from; None: the base."""
        return None if self.init is None else self.folder / PARENT

    def dump(self) -> str:
        """The settings as YAML, readable by `load_config`."""
        return as_yaml(self.model_dump(mode="json"))


def as_yaml(values: Any, width: int = 80) -> str:
    """Values as YAML that `read_yaml` reads back equal; keys keep their order."""
    return dump_yaml(values, width)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from `path`.

    Raises:
        ConfigError: the file is missing, isn't YAML or isn't a mapping.
    """
    cure = "name a recipe or an existing .yaml file"
    try:
        if not path.is_file():  # reading a pipe could block for ever
            missing = not path.exists()
            raise ConfigError(f"no such file: {path}" if missing else f"{path} is not a file", cure)
        if path.stat().st_size > MAX_YAML:
            raise ConfigError(f"{path} has more than {MAX_YAML:,} bytes", cure)
        text = path.read_text(encoding="utf-8")
        value = load_yaml(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} is not YAML: it isn't text in UTF-8, but perhaps a PDF or a picture",
            "give a text file with `key: value` lines, in UTF-8",
        ) from None
    except yaml.YAMLError as error:
        raise _not_yaml(path, text, error) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no settings", "write `key: value` lines")
    return {str(key): each for key, each in value.items()}


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> ConfigError:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is None:
        cure = "give a text file with `key: value` lines"
        return ConfigError(f"{path} is not YAML: {error}", cure)
    number, lines = mark.line + 1, text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return ConfigError(
            f"{path}, line {number}, is not YAML: it begins with a tab", "write spaces instead"
        )
    return ConfigError(f"{path} is not YAML: {error}", f"mend line {number}, or the one before it")


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """The type of each setting of `model`, by dotted name."""
    return {each.name: each.kind for each in settings_of(model, prefix)}


def leaves_with(options: type[Section]) -> dict[str, Any]:
    """The type of each setting of a run whose section `task` is `options`."""
    return leaves(RunConfig) | leaves(options, "task.")
