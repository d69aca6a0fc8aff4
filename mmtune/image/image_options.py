"""Settings of image training that no other modality shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mmtune.config import Section

Quantize = Literal["none", "int8", "nf4"]


class ImageOptions(Section):
    """Training and sampling of a diffusion model."""

    resolution: Annotated[int, Field(ge=16)] | None = None  # pixels; None: the base's own
    background: str = "#ffffff"  # behind what is transparent; a name will do
    # A phrase before every caption, in training and when sampling: the look comes when it is said.
    trigger: str = ""
    # Images that the base itself draws, of captions without the trigger, as rows beside the data's
    # (prior preservation, arXiv 2208.12242): how many, of which captions (a file, one on a line;
    # None: the training rows'), and their weight.
    prior: Annotated[int, Field(ge=0)] = 0
    prior_captions: Path | None = None
    prior_weight: Annotated[float, Field(gt=0)] = 1.0
    buckets: bool = False  # train tall and wide images in their shape; samples stay square
    flip: bool = False  # also train mirrored; not for logos or anything with letters
    caption_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # guidance needs the empty caption
    # How the frozen denoiser's linear layers are held in memory (extra `quantize`; nf4: GPUs only).
    quantize: Quantize = "none"
    # Also adapt the CLIP text encoders of Stable Diffusion 1.x, 2.x and XL; captions aren't stored.
    text_encoder: bool = False
    min_snr: Annotated[float, Field(gt=0)] | None = 5.0  # gamma of arXiv 2303.09556; None: off
    # Bases that were trained by flow matching: density of the timesteps before the base's own shift
    # (arXiv 2403.03206, sec. 3.1). min_snr is not for them; other bases draw uniformly.
    timesteps: Literal["logit_normal", "uniform", "mode"] = "logit_normal"
    logit_mean: float = 0.0
    logit_std: Annotated[float, Field(gt=0)] = 1.0
    train_guidance: Annotated[float, Field(ge=0)] = 1.0  # FLUX.1 [dev]: its input while it trains
    # The noisiest share of the timesteps, which learns what the base itself predicts, in the
    # brand's colours: there the layout is decided, and a style should leave it alone.
    keep_layout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    steps: Annotated[int, Field(ge=1)] = 30  # denoising steps of a sample
    sample_batch: Annotated[int, Field(ge=1)] = 16  # images sampled at once
    guidance: Annotated[float, Field(ge=1)] = 5.0  # of samples; 1: off; FLUX.1 [dev]: its input
    seeds: Annotated[int, Field(ge=1)] = 2  # images per test caption, of base and of adapter
    validation_images: Annotated[int, Field(ge=2)] = 8  # sampled at each validation
    # After training, at each of train.scales: images of validation captions, and the share of the
    # base's content (CLIP score or prompt match, or layout) that the recommended one must keep.
    scale_images: Annotated[int, Field(ge=2)] = 16
    keep_content: Annotated[float, Field(ge=0, le=1)] = 0.5

    # The report card.
    # The brand's colours, as #FCEA2B; empty: estimated from the training images.
    palette: tuple[Annotated[str, Field(pattern=r"^#?[0-9a-fA-F]{6}$")], ...] = ()
    controls: Path | None = None  # a folder of real images of other styles, each in a subfolder
    # Encoder that judges style, diversity and KID: starter:style, a hub id or a folder; None: the
    # frozen base itself.
    backbone: str | None = None
    # What tells whether an image shows its caption: a CLIP or SigLIP by hub id or folder (CLIP
    # score and CMMD), or starter:match, our own small one for icons (prompt match).
    clip_model: str | None = None
    # What else it is asked for, drawn too where `clip_model` is set; the data's own captions among
    # them are left out, and fewer than four aren't drawn.
    outside_prompts: tuple[str, ...] = (
        "red apple",
        "dog",
        "bicycle",
        "house",
        "sun",
        "umbrella",
        "pizza",
        "guitar",
    )
    # To look for copies, the adapter also draws training captions: how many, and images of each.
    copy_captions: Annotated[int, Field(ge=1)] = 25
    copy_seeds: Annotated[int, Field(ge=0)] = 4  # 0: off

    @field_validator("controls")
    @classmethod
    def _folder(cls, path: Path | None) -> Path | None:
        # Said before the training, not after it.
        if path is not None and not path.is_dir():
            raise ValueError(f"no such folder: {path}")
        return path

    @field_validator("prior_captions")
    @classmethod
    def _file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"no such file: {path}")
        return path

    @field_validator("trigger")
    @classmethod
    def _one_line(cls, phrase: str) -> str:
        return " ".join(phrase.split()).strip(" ,")

    @field_validator("background")
    @classmethod
    def _a_colour(cls, value: str) -> str:
        # As #rrggbb, so that one colour has one key in the cache, however it is written.
        from PIL import ImageColor

        red, green, blue, *alpha = ImageColor.getrgb(value)
        if alpha and alpha[0] != 255:
            raise ValueError("a background can't be transparent itself")
        return f"#{red:02x}{green:02x}{blue:02x}"
