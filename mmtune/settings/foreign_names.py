"""Settings of other training programs: which are ours by another name, and answers to the rest.

A name stands here only if it is no name of mmtune's own; see `resolve` in naming.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRANSFORMERS, PEFT, KOHYA, DIFFUSERS, UNSLOTH = (
    *("transformers", "PEFT", "kohya", "diffusers", "Unsloth"),
)


@dataclass(frozen=True)
class Elsewhere:
    """A setting of another program.

    Attributes:
        name: as it is written there.
        programs: those that have it.
        ours: mmtune's setting of the same meaning; empty if there is none.
        answer: what mmtune does instead, and which setting to give; empty if `ours` is set.
        values: their values that mmtune writes otherwise.
    """

    name: str
    programs: tuple[str, ...]
    ours: str = ""
    answer: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def _same(ours: str, names: str, *programs: str, **values: Any) -> tuple[Elsewhere, ...]:
    return tuple(Elsewhere(name, programs, ours, values=values) for name in names.split())


def _other(answer: str, names: str, *programs: str) -> tuple[Elsewhere, ...]:
    return tuple(Elsewhere(name, programs, answer=answer) for name in names.split())


# One name may stand in one line only; the programs are those that made it known.
NAMES: tuple[Elsewhere, ...] = (
    *_same("base", "model_name_or_path", TRANSFORMERS),
    *_same("base", "pretrained_model_name_or_path", DIFFUSERS, KOHYA),
    *_same("base", "model_name", UNSLOTH),
    *_same("data.path", "train_data_dir", DIFFUSERS, KOHYA),
    *_same("data.path", "instance_data_dir", DIFFUSERS),
    *_same("name", "output_name", KOHYA),
    *_same("cache", "cache_latents", KOHYA, DIFFUSERS),
    *_same("train.lr", "learning_rate", TRANSFORMERS, DIFFUSERS, KOHYA),
    *_same("train.epochs", "num_train_epochs", TRANSFORMERS, DIFFUSERS),
    *_same("train.epochs", "max_train_epochs", KOHYA),
    *_same("train.max_steps", "max_train_steps", DIFFUSERS, KOHYA),
    *_same("train.schedule", "lr_scheduler_type", TRANSFORMERS),
    *_same("train.schedule", "lr_scheduler", DIFFUSERS, KOHYA),
    *_same("train.warmup", "warmup_ratio", TRANSFORMERS),
    *_same("train.clip", "max_grad_norm", TRANSFORMERS, DIFFUSERS, KOHYA),
    *_same("train.precision", "mixed_precision", DIFFUSERS, KOHYA, no="fp32"),
    *_same("train.validate_every", "eval_steps", TRANSFORMERS),
    *_same("train.patience", "early_stopping_patience", TRANSFORMERS),
    *_same("train.checkpoint_every", "save_steps", TRANSFORMERS),
    *_same("train.checkpoint_every", "checkpointing_steps", DIFFUSERS),
    *_same("train.checkpoint_every", "save_every_n_steps", KOHYA),
    *_same("train.keep", "save_total_limit", TRANSFORMERS),
    *_same("train.keep", "checkpoints_total_limit", DIFFUSERS),
    *_same("train.tracker", "report_to", TRANSFORMERS, DIFFUSERS, none=None),
    *_same("train.tracker", "log_with", KOHYA),
    *_same("lora.rank", "r lora_r", PEFT, UNSLOTH),
    *_same("lora.rank", "network_dim", KOHYA),
    *_same("lora.alpha", "lora_alpha", PEFT, UNSLOTH),
    *_same("lora.alpha", "network_alpha", KOHYA),
    *_same("lora.dropout", "lora_dropout", PEFT, UNSLOTH),
    *_same("lora.targets", "target_modules", PEFT, UNSLOTH),
    *_same("lora.rslora", "use_rslora", PEFT, UNSLOTH),
    *_same("lora.dora", "use_dora", PEFT),
    *_same("task.caption_dropout", "caption_dropout_rate", KOHYA),
    *_same("task.min_snr", "min_snr_gamma", KOHYA),
    *_same("task.min_snr", "snr_gamma", DIFFUSERS),
    *_same("task.flip", "random_flip", DIFFUSERS),
    *_same("task.flip", "flip_aug", KOHYA),
    *_same("task.buckets", "enable_bucket", KOHYA),
    *_same("task.text_encoder", "train_text_encoder", DIFFUSERS),
    *_same("task.prior", "num_class_images", DIFFUSERS),
    *_same("task.prior_weight", "prior_loss_weight", DIFFUSERS, KOHYA),
    *_other(
        "batch_size counts all rows of an optimizer step, over all processes; "
        "micro_batch sets how many go through at once",
        "gradient_accumulation_steps per_device_train_batch_size",
        *(TRANSFORMERS, UNSLOTH),
    ),
    *_other(
        "batch_size counts all rows of an optimizer step, over all processes; "
        "micro_batch sets how many go through at once",
        "train_batch_size",
        *(DIFFUSERS, KOHYA),
    ),
    *_other(
        "validation forms its own batches; leave it out",
        "per_device_eval_batch_size",
        TRANSFORMERS,
    ),
    *_other(
        "precision takes auto, fp32, bf16 or fp16: give precision=fp16 or precision=bf16",
        "fp16 bf16",
        TRANSFORMERS,
    ),
    *_other(
        "optimizer takes adamw, adafactor, lion, prodigy or adamw_8bit: give optimizer=adafactor; "
        "betas and epsilon are the library's, lr and weight_decay are settings",
        "optim adam_beta1 adam_beta2 adam_epsilon",
        *(TRANSFORMERS, DIFFUSERS),
    ),
    *_other(
        "optimizer takes adamw, adafactor, lion, prodigy or adamw_8bit: give optimizer=prodigy; "
        "lr and weight_decay are its settings",
        "optimizer_type optimizer_args",
        KOHYA,
    ),
    *_other(
        "warmup is a share of the steps: give warmup=0.05 for 5 steps in 100",
        "warmup_steps",
        TRANSFORMERS,
    ),
    *_other(
        "warmup is a share of the steps: give warmup=0.05 for 5 steps in 100",
        "lr_warmup_steps",
        *(DIFFUSERS, KOHYA),
    ),
    *_other(
        "a run writes into OUT/NAME: give out for the parent folder and name for the run's own",
        "output_dir",
        *(TRANSFORMERS, DIFFUSERS, KOHYA),
    ),
    *_other(
        "log.jsonl in the run folder has every step; leave it out", "logging_steps", TRANSFORMERS
    ),
    *_other(
        "validation runs once an epoch, or every validate_every steps",
        "eval_strategy evaluation_strategy",
        TRANSFORMERS,
    ),
    *_other(
        "checkpoints are always written, every checkpoint_every steps",
        "save_strategy",
        TRANSFORMERS,
    ),
    *_other("checkpoint_every counts steps, not epochs", "save_every_n_epochs", KOHYA),
    *_other(
        "the best weights in validation are always the ones that are kept; leave it out",
        "load_best_model_at_end",
        TRANSFORMERS,
    ),
    *_other(
        "the kind of data decides which metric validation compares; leave it out",
        "metric_for_best_model",
        TRANSFORMERS,
    ),
    *_other(
        "the same command resumes its run; leave it out",
        "resume_from_checkpoint",
        *(TRANSFORMERS, DIFFUSERS),
    ),
    *_other("a new name starts a new run: give name=NAME", "overwrite_output_dir", TRANSFORMERS),
    *_other(
        "`mmtune push RUN OWNER/NAME` uploads a finished adapter; leave it out",
        "push_to_hub",
        TRANSFORMERS,
    ),
    *_other(
        "data takes a manifest or a folder; `mmtune import` converts a Hugging Face dataset",
        "dataset_name",
        DIFFUSERS,
    ),
    *_other("biases stay frozen, as by default in PEFT; leave it out", "bias", PEFT, UNSLOTH),
    *_other(
        "mmtune trains adapters alone; lora.targets names the modules that get one",
        "modules_to_save",
        PEFT,
    ),
    *_other("the recipe decides; leave it out", "task_type", PEFT),
    *_other(
        "adapter.method chooses the kind of adapter: lora, dora, loha, lokr or ia3",
        "network_module network_args",
        KOHYA,
    ),
    *_other(
        "one rate, lr, holds for all adapted weights; text_encoder=true adapts text encoders too",
        "unet_lr text_encoder_lr",
        KOHYA,
    ),
    *_other(
        "mmtune adds no offset; the base's scheduler says whether noise reaches a signal-to-noise "
        "ratio of zero",
        "noise_offset",
        *(KOHYA, DIFFUSERS),
    ),
    *_other(
        "text is encoded by the base's own pipeline, in training and in sampling; leave it out",
        "clip_skip",
        KOHYA,
    ),
    *_other(
        "the base decides how much text it reads; `mmtune check` names the rows that have more",
        "max_seq_length",
        UNSLOTH,
    ),
    *_other(
        "task.quantize=nf4 holds a base in 4 bits, in recipes that have this setting",
        "load_in_4bit",
        UNSLOTH,
    ),
    *_other(
        "task.quantize=int8 holds a base in 8 bits, in recipes that have this setting",
        "load_in_8bit",
        UNSLOTH,
    ),
    *_other("mmtune trains adapters alone; give lora.rank", "full_finetuning", UNSLOTH),
)

BY_NAME: Mapping[str, Elsewhere] = {each.name: each for each in NAMES}
