"""Settings of image training that no other modality shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mmtune.config import Section
from mmtune.settings.declare import setting

Quantize = Literal["none", "int8", "nf4"]
Density = Literal["logit_normal", "uniform", "mode"]


class ImageOptions(Section):
    """How a diffusion model is trained, sampled and scored."""

    resolution: int | None = setting(
        None,
        "Side of a training image. Null: the base model's own.",
        unit="px",
        why="A base model draws best at the size that it was trained on.",
        common=True,
        ge=16,
    )
    background: str = setting(
        "#ffffff",
        "Colour behind transparent parts of an image: #rrggbb or a name.",
        why="White is what most pages have behind an image; customary.",
    )
    trigger: str = setting(
        "",
        "Phrase put before every caption, in training and in sampling; with it the look appears "
        "only where the phrase is written. Empty: none.",
        why="Without a phrase the look comes with every prompt, which is simplest.",
        common=True,
    )
    prior: int = setting(
        0,
        "Images that the base model draws, without the trigger, and that are trained on beside "
        "the data (prior preservation, arXiv 2208.12242). 0: none.",
        unit="images",
        why="Off: drawing them takes time.",
        ge=0,
    )
    prior_captions: Path | None = setting(
        None,
        "Captions of the prior images: a text file with one a line. Null: the training captions.",
        why="The training captions fit wherever there is a trigger.",
    )
    prior_weight: float = setting(
        1.0,
        "Weight of a prior image in the loss; an image of the data has 1.",
        unit="factor",
        why="As in diffusers' DreamBooth scripts.",
        gt=0,
    )
    buckets: bool = setting(
        False,
        "Train tall and wide images in their own shape instead of cutting them square. Samples "
        "stay square.",
        why="Off: square batches are simplest; not tuned.",
    )
    flip: bool = setting(
        False,
        "Also train on mirrored images. Not for logos or anything with letters.",
        why="Off: mirroring spoils letters and logos.",
    )
    caption_dropout: float = setting(
        0.1,
        "Share of the draws of an image in which its caption is empty.",
        unit="share of the draws",
        why="Guidance needs the model without a caption too (arXiv 2207.12598); 0.1 is customary.",
        ge=0,
        lt=1,
    )
    quantize: Quantize = setting(
        "none",
        "Bits of the frozen denoiser's linear layers in memory. int8 runs on CPUs and GPUs, nf4 on "
        "NVIDIA GPUs; both need pip install 'mmtune[quantize]'.",
        why="Off: gradient_checkpointing saves more memory (docs/scale.md).",
    )
    text_encoder: bool = setting(
        False,
        "Also adapt the CLIP text encoders of Stable Diffusion 1.x, 2.x and XL.",
        why="Off: captions could not be stored then, and would be encoded again in every step.",
    )
    min_snr: float | None = setting(
        5.0,
        "Gamma of the Min-SNR weights of the loss (arXiv 2303.09556). Null: all timesteps weigh "
        "the same. Models trained by flow matching ignore it.",
        unit="signal-to-noise ratio",
        why="The paper's value.",
        gt=0,
    )
    timesteps: Density = setting(
        "logit_normal",
        "How timesteps are drawn for models trained by flow matching (arXiv 2403.03206, sec. "
        "3.1), before the model's own shift. Other models draw uniformly.",
        why="The density that the paper found best.",
    )
    logit_mean: float = setting(
        0.0,
        "Mean of logit_normal; above 0 draws noisier timesteps.",
        unit="logits",
        why="As in diffusers' scripts.",
    )
    logit_std: float = setting(
        1.0,
        "Standard deviation of logit_normal.",
        unit="logits",
        why="As in diffusers' scripts.",
        gt=0,
    )
    train_guidance: float = setting(
        1.0,
        "Guidance that FLUX.1 [dev] and FLUX.2 [dev] are told while they train.",
        unit="guidance scale",
        why="At 1 the model is asked for the plain picture (docs/families.md).",
        ge=0,
    )
    keep_layout: float = setting(
        0.0,
        "The noisiest share of the timesteps, at which the adapter learns what the base predicts: "
        "the layout stays the base's, and so does the ground.",
        unit="share of the timesteps",
        why="Off: it was measured on the first icon starter alone, where 0.15 was chosen.",
        ge=0,
        lt=1,
    )
    steps: int = setting(
        30,
        "Denoising steps of a sampled image. Write --task.steps: --steps is train.max_steps.",
        unit="denoising steps",
        why="Customary for models that are not distilled; not tuned.",
        ge=1,
    )
    sample_batch: int = setting(
        16,
        "Images drawn at once. Lower it if memory runs out in sampling.",
        unit="images",
        why="Not tuned.",
        ge=1,
    )
    guidance: float = setting(
        5.0,
        "Classifier-free guidance of sampled images; 1 is off. FLUX.1 [dev] and FLUX.2 [dev] take "
        "it as an input.",
        unit="guidance scale",
        why="As in diffusers' pipeline for SDXL.",
        ge=1,
    )
    seeds: int = setting(
        2,
        "Images for each test caption, of the base and of the adapter.",
        unit="images",
        why="Not tuned: drawing takes most of the comparison's time.",
        ge=1,
    )
    validation_images: int = setting(
        8,
        "Images drawn at each validation.",
        unit="images",
        why="Not tuned: drawing takes most of a validation's time.",
        ge=2,
    )
    scale_images: int = setting(
        24,
        "Images drawn at each of train.scales after training, of as many different captions: those "
        "of the validation rows, then training captions. A strength is recommended from 15 "
        "captions on.",
        unit="images",
        why="Style isn't measurable with fewer than 15 captions; otherwise not tuned.",
        ge=2,
    )
    keep_content: float = setting(
        0.5,
        "Share of the base's content that a strength must keep to be recommended: CLIP score or "
        "prompt match with clip_model, else the layout.",
        unit="share of the content",
        why="Not tuned: at 0 an image fits its caption no better than any other.",
        ge=0,
        le=1,
    )
    palette: tuple[Annotated[str, Field(pattern=r"^#?[0-9a-fA-F]{6}$")], ...] = setting(
        (),
        "The brand's colours, for example #FCEA2B,#3F3F3F. Empty: estimated from the training "
        "images.",
        why="Only you know them; an estimate is a fair start.",
    )
    brand_guide: Path | None = setting(
        None,
        "Guide of the brand, a YAML file (docs/brand-guide.md): palette, grounds, forbidden words "
        "and things, trigger, reference pictures. The check and the report mark each of its rules "
        "kept, broken or not measurable. Null: no guide.",
        why="Only you know the brand's rules.",
        measuring=True,
        harmless="It changes nothing that is trained; base and adapter are measured by it again.",
    )
    controls: Path | None = setting(
        None,
        "Folder of real images in other styles, one subfolder for each, to test whether the "
        "style figure tells styles apart.",
        why="None: mmtune brings no images of other styles along.",
    )
    backbone: str | None = setting(
        None,
        "Image encoder that judges style, diversity and KID: starter:style, a Hugging Face id or "
        "a folder. Null: the frozen base itself.",
        why="The base is there already, so nothing needs to be downloaded.",
        file=True,
    )
    clip_model: str | None = setting(
        None,
        "Model that judges whether an image shows its caption: a CLIP or SigLIP by Hugging Face "
        "id or folder, or starter:match for icons. Null: starter:match with the icon starter, "
        "else laion/CLIP-ViT-B-32-laion2B-s34B-b79K, which is downloaded for a base of the hub. "
        "none: not judged, and the content check isn't known.",
        why="An adapter whose images nobody can name must not pass; this CLIP is small, and its "
        "licence is MIT.",
        measuring=True,
        file=True,
    )
    image_filter: str | None = setting(
        None,
        "Filter that judges whether images of base and adapter hurt: package.module:function of "
        "yours, an installed plugin, or Stable Diffusion's safety checker by folder or Hugging "
        "Face id. Null: not judged, and the check isn't known.",
        why="None: mmtune brings no such filter along, and what hurts depends on who looks.",
        measuring=True,
        file=True,
        harmless="It only judges images, and the comparison records its hash.",
        code=True,
    )
    outside_prompts: tuple[str, ...] = setting(
        (
            "red apple",
            "dog",
            "bicycle",
            "house",
            "sun",
            "umbrella",
            "pizza",
            "guitar",
        ),
        "Prompts beside the data's that are also drawn where a model judges captions, to see what "
        "the adapter loses. The data's own captions are left out; fewer than four are not drawn.",
        why="Common things that the icon starter can draw too; not tuned.",
    )
    copy_captions: int = setting(
        25,
        "Training captions that the adapter draws again to look for copies.",
        unit="captions",
        why="Not tuned.",
        measuring=True,
        ge=1,
    )
    copy_seeds: int = setting(
        4,
        "Images drawn for each of copy_captions. 0: copies are not looked for.",
        unit="images",
        why="Not tuned.",
        measuring=True,
        ge=0,
    )

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
