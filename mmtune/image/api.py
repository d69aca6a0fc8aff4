"""`mmtune.generate`: images of prompts, with a base model or with adapters."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from mmtune.adapters.adopt import own_forms
from mmtune.adapters.resolve import resolve_adapters
from mmtune.adapters.routing import is_route
from mmtune.data.check import usable_rows
from mmtune.errors import ConfigError
from mmtune.image import MODALITY
from mmtune.image.brand.forbidden_words import refuse_words
from mmtune.image.brand.words_beside import words_of
from mmtune.image.corpus.image_reader import READER
from mmtune.image.sampling.strength_used import RANDOM_SEED, draw_seed, strength_of
from mmtune.system.display import Displayed, Rows
from mmtune.system.quiet import public_call

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.image.image_options import Quantize

Adapters = str | Path | Sequence[str | Path] | Mapping[str, float] | Mapping[Path, float]
PREVIEW = 256  # pixels: the longer side of an image in a notebook


@dataclass(frozen=True)
class GeneratedImage(Displayed):
    """An image that was written.

    Attributes:
        path: the PNG file, which also records how it was made.
        prompt: what was asked for.
        seed: of its noise.
    """

    path: Path
    prompt: str
    seed: int

    @property
    def image(self) -> Image:
        """Its pixels, read from the file."""
        from mmtune.system.pictures import opened_picture

        with opened_picture(self.path) as image:
            return image.copy()

    def shown(self) -> Iterable[str | Rows]:
        """The file."""
        return [str(self.path)]

    def _repr_html_(self) -> str:
        """The picture, with prompt and seed below it."""
        preview, buffer = self.image, io.BytesIO()
        preview.thumbnail((PREVIEW, PREVIEW))
        preview.save(buffer, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        caption = html.escape(f"{self.prompt} #{self.seed}")
        return (
            '<figure style="display: inline-block; margin: 4px">'
            f'<img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )


@dataclass(frozen=True)
class GeneratedImages(Displayed, Sequence[GeneratedImage]):
    """Images that were written, by prompt and then by seed.

    Attributes:
        images: one for each prompt and seed.
        grid: the sheet of all of them, the base above; None where it wasn't asked for.
        notes: what the user should know.
        unusable: why rows of a manifest weren't drawn.
    """

    images: tuple[GeneratedImage, ...]
    grid: Path | None = None
    notes: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, place: int) -> GeneratedImage: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[GeneratedImage]: ...
    def __getitem__(self, place: int | slice) -> GeneratedImage | Sequence[GeneratedImage]:
        return self.images[place]

    def shown(self) -> Iterable[str | Rows]:
        """The files, a line each."""
        files = [str(each.path) for each in self.images]
        return [*files, *([str(self.grid)] if self.grid is not None else [])]

    def _repr_html_(self) -> str:
        """The pictures, beside each other."""
        return "".join(each._repr_html_() for each in self.images)


@public_call("generate")
def generate(
    prompts: str | Sequence[str] = (),
    *,
    adapter: Adapters | None = None,
    base: str | None = None,
    label: str | None = None,
    rows: str | Path | None = None,
    seeds: Sequence[int] = (0,),
    scale: float | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int = 16,
    quantize: Quantize = "none",
    grid: bool = False,
    trigger: bool = True,
    brand: str | Path | None = None,
    out: str | Path = "images",
) -> GeneratedImages:
    """Draw images of prompts, and write them as PNG files.

    Args:
        prompts: one or several.
        adapter: a run's folder, its adapter/, a folder that `mmtune.compose(route=…)` wrote, or a
            `.safetensors` file or folder of another program, which needs `base`; several of one
            base, or several with their weights; None: the base alone.
        base: a base model; None: the adapter's.
        label: of a route: selects the adapters for all prompts.
        rows: a manifest whose captions are drawn too, each with its labels.
        seeds: of the images of each prompt; -1 is drawn at random, and a note names it.
        scale: strength of all adapters; 0 gives the base model. None: the strength at which the
            adapter was judged; 1 for several adapters, a route, and one with a weight.
        steps: of the sampler; None: as in the adapter's training.
        guidance: classifier-free guidance, 1 is off; None: as in the adapter's training.
        batch: images that are sampled at once.
        quantize: bits in which the base's denoiser is held: "none", "int8" or "nf4".
        grid: also write grid.png, with the base's images above the adapter's.
        trigger: put the adapter's trigger phrase before prompts that don't hold it.
        brand: the guide of a brand, `brand.yaml`; prompts with a word that it forbids are refused.
            None: the words that the adapters carry from the guide of their training.
        out: the folder for the files. A file that exists is kept; the new one gets a number.

    Raises:
        ConfigError: no model or prompt is named, a prompt has a forbidden word, or a setting is
            impossible.
        AdapterError: an adapter is missing, doesn't fit the base, or draws pictures that aren't
            finite.
        DataError: the manifest can't be used.
    """
    named = own_forms(_weighted(adapter), base, MODALITY.adopt)
    model = resolve_adapters("image", named, base=base, label=label)
    wanted = [prompts] if isinstance(prompts, str) else list(prompts)
    if not all(prompt.strip() for prompt in wanted):
        raise ConfigError("a prompt is empty", 'write what to draw: --prompt "a red apple"')
    chosen = [model.choose(None)] * len(wanted)
    notes: tuple[str, ...] = (*model.notes, *((model.note,) if wanted and model.note else ()))
    strength = strength_of(model, routed=any(map(is_route, named)), scale=scale)
    scale = strength.scale
    notes += strength.notes
    random_seeds = [draw_seed() if seed == RANDOM_SEED else seed for seed in seeds]
    if random_seeds != list(seeds):
        notes += (f"seeds {', '.join(map(str, random_seeds))}: drawn at random where -1 was given",)
    seeds = random_seeds
    unusable: list[str] = []
    if rows is not None:
        usable, unusable = usable_rows(Path(rows), READER)
        wanted += [row.reference for row in usable]
        chosen += [model.choose(row) for row in usable]
    if not wanted:
        raise ConfigError("nothing to draw is named", '--prompt "a red apple", or --rows MANIFEST')
    guide = Path(brand) if brand is not None else None
    for source, words in words_of(guide, model.adapters.values()).items():
        refuse_words(wanted, words, str(source))
    # How the first adapter was trained is how all are sampled.
    tasks = [card.settings.get("task") or {} for card in model.cards.values()]
    given = {"steps": steps, "guidance": guidance}
    settings: dict[str, Any] = {n: tasks[0][n] for n in given if tasks and n in tasks[0]}
    settings |= {name: value for name, value in given.items() if value is not None}
    if settings.get("guidance", 1) < 1:
        raise ConfigError(f"--guidance {settings['guidance']:g} is below 1", "1 is off")
    triggers = {model.adapters[name]: card.trigger for name, card in model.cards.items()}
    from mmtune.image.sampling import generate as sampling

    weights = [{model.adapters[name]: own for name, own in each.items()} for each in chosen]
    paths = sampling.generate(
        wanted,
        Path(out),
        base=model.base,
        adapter=weights,
        weight=scale,
        seeds=seeds,
        quantize=quantize,
        batch=batch,
        grid=grid,
        triggers=triggers if trigger else {},
        **settings,
    )
    asked = [(prompt, seed) for prompt in wanted for seed in seeds]
    images = [GeneratedImage(path, *each) for path, each in zip(paths, asked, strict=False)]
    sheet = paths[-1] if grid and paths else None
    return GeneratedImages(tuple(images), sheet, notes, tuple(unusable))


def _weighted(adapter: Adapters | None) -> dict[Path, float]:
    if adapter is None:
        return {}
    if isinstance(adapter, (str, Path)):
        adapter = [adapter]
    if isinstance(adapter, Mapping):
        return {Path(path): weight for path, weight in adapter.items()}
    return {Path(path): 1.0 for path in adapter}
