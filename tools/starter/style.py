"""Fit the style encoder of assets/style-encoder, and say how well it tells a style it never saw.

    python tools/starter/style.py --work runs/starter [--leave-one-out | --others]

Several icon sets (those of sets.json whose style has a word) draw the same things. How much the
statistics of a picture (mmtune/image/looks/style_net.py) vary within a set is what things, and
not hands, make of them; so is what mirroring, moving, blurring and a little noise change. The
encoder divides by both: pictures are near each other where they differ only as pictures of one
set do. Colour is part of a style and is never changed.

With --leave-one-out it is fitted once for each set, without it and without the 119
concepts of concepts.json. Then each icon of those concepts in the set left out looks for its
nearest neighbour among all sets' icons of the 118 other concepts: right if that is of its own
set.

With --others it asks about three more sets, by which no statistic was chosen: 119 icons of each,
drawn at random, among themselves and the same icons of the sets.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from icons import STYLES, draw, install
from sets import HERE, refuse_excluded
from torch import Tensor

from mmtune.image.looks.style_net import WEIGHTS_FILE, StyleNet, statistics

OUT = HERE.parents[1] / "assets" / "style-encoder"
# Flags, clocks and signs are the same in all sets; people of other skins are the same five times.
SKIPPED = ("skin-tone", "flag", "clock", "keycap", "oclock", "thirty", "button", "japanese")
# So are people at their trades, of whom a random choice would hold many.
PEOPLE = ("man-", "men-", "person", "people", "family", "couple", "kiss")
# Further npm packages, to measure on, and which of the sets is of the same hand and is left out.
OTHERS = {"emojione-v1": "emojione", "fluent-emoji": None, "flat-color-icons": None}
SHRINK = 0.01  # of the covariance towards its diagonal
POWER = 0.6  # of the variance that is divided by; 0.5 would whiten
LEAST = 1e-3  # deviation of a statistic


def load_all(work: Path, npm: Path | None) -> dict[str, np.ndarray]:
    """Every icon of the sets that at least three of them have, drawn once.

    Returns:
        `pixels` uint8 (n, 64, 64, 3), `style` and `concept` int64 (n,), `test` bool (n,): whether
        it is of the starter's concepts.
    """
    refuse_excluded(STYLES)
    path = work / "all-icons.npz"
    if not path.exists():
        where = install(npm or work / "npm")
        sets = [json.loads((where / style / "icons.json").read_text()) for style in STYLES]
        names = [set(s["icons"]) | set(s.get("aliases", {})) for s in sets]
        test = set(json.loads((HERE / "concepts.json").read_text())["concepts"])
        shared = sorted(
            name
            for name in set.union(*names)
            if name in test
            or (sum(name in n for n in names) >= 3 and not any(s in name for s in SKIPPED))
        )
        rows = []
        for s, icon_set in enumerate(sets):
            for c, name in enumerate(shared):
                if name in names[s] and (pixels := draw(icon_set, name)) is not None:
                    rows.append((pixels, s, c, name in test))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, **dict(zip(("pixels", "style", "concept", "test"), columns, strict=True)))
    with np.load(path) as data:
        return dict(data)


def to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def roughen(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, scale a little, move, soften and add noise: (n, 3, 64, 64) on white -> the same."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    size, zero = uniform(0.92, 1.08), torch.zeros(n)
    mirror = (uniform(0, 1) < 0.5).float() * 2 - 1
    theta = torch.stack(
        [
            torch.stack([size * mirror, zero, uniform(-0.06, 0.06)], 1),
            torch.stack([zero, size, uniform(-0.06, 0.06)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = 1 - F.grid_sample(1 - x, grid, align_corners=False)  # outside is white
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, uniform(0, 0.6)[:, None, None, None])
    noise = torch.randn(x.shape, generator=generator) * uniform(0, 0.02)[:, None, None, None]
    return (x + noise).clamp(0, 1)


@torch.no_grad()
def describe(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the icons and of roughened ones, two arrays (n, features)."""
    generator = torch.Generator().manual_seed(0)
    clean, rough = [], []
    for part in np.array_split(pixels, len(pixels) // 64 + 1):
        x = to_tensor(part)
        clean.append(statistics(x))
        rough.append(statistics(roughen(x, generator)))
    return torch.cat(clean).double().numpy(), torch.cat(rough).double().numpy()


def fit(clean: np.ndarray, rough: np.ndarray, style: np.ndarray) -> StyleNet:
    """The encoder that divides by what varies within each of the styles given."""
    within = np.zeros((clean.shape[1],) * 2)
    for s in np.unique(style):
        mean = clean[style == s].mean(0)
        for rows in (clean[style == s] - mean, rough[style == s] - mean):
            within += rows.T @ rows
    within /= 2 * len(style)
    unit = np.maximum(np.sqrt(np.diag(within)), LEAST)
    within = (1 - SHRINK) * within / unit / unit[:, None] + SHRINK * np.eye(len(unit))
    values, vectors = np.linalg.eigh(within)
    net = StyleNet(*vectors.shape)
    net.mean.copy_(torch.from_numpy(clean.mean(0)))
    net.projection.copy_(torch.from_numpy(vectors / values**POWER / unit[:, None]))
    return net


def nearest(queries: Tensor, gallery: Tensor, asked: np.ndarray, concept: np.ndarray) -> np.ndarray:
    """Where in the gallery each query's nearest neighbour of another concept is, int64 (queries,).

    `asked` and `concept` are the concepts of the queries and of the gallery.
    """
    same = torch.from_numpy(asked[:, None] == concept[None])
    return (queries @ gallery.T).masked_fill(same, -2).argmax(1).numpy()


def asked_about(data: dict[str, np.ndarray]) -> np.ndarray:
    """Which icons no fit that is measured may see, bool (n,)."""
    # A set may draw one picture for two names, of which only one is in concepts.json.
    asked = {picture.tobytes() for picture in data["pixels"][data["test"]]}
    return np.array([picture.tobytes() in asked for picture in data["pixels"]])


def leave_one_out(data: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Accuracy on each set by an encoder that never saw it, nor the concepts it is asked about."""
    clean, rough = describe(data["pixels"])
    test, known = np.flatnonzero(data["test"]), asked_about(data)
    style, concept = data["style"][test], data["concept"][test]
    figures: dict[str, dict[str, float]] = {"as drawn": {}, "roughened": {}}
    for s, name in enumerate(STYLES):
        rows = np.flatnonzero(~known & (data["style"] != s))
        net = fit(clean[rows], rough[rows], data["style"][rows])
        gallery = embedded(net, clean[test])
        for kind, of in (("as drawn", clean), ("roughened", rough)):
            found = style[nearest(embedded(net, of[test]), gallery, concept, concept)]
            figures[kind][name] = float((found == s)[style == s].mean())
    for of_sets in figures.values():
        of_sets["mean"] = float(np.mean(list(of_sets.values())))
    return figures


def others(data: dict[str, np.ndarray], npm: Path) -> dict[str, dict[str, float]]:
    """Accuracy on sets by which no statistic was chosen, by encoders that never saw their hand."""
    clean, rough = describe(data["pixels"])
    concepts = json.loads((HERE / "concepts.json").read_text())["concepts"]
    where, known = install(npm, OTHERS), asked_about(data)
    figures: dict[str, dict[str, float]] = {"as drawn": {}, "roughened": {}}
    for name, twin in OTHERS.items():
        icon_set = json.loads((where / name / "icons.json").read_text())
        names = [n for n in icon_set["icons"] if not any(s in n for s in (*SKIPPED, *PEOPLE))]
        names = [n for n in names if n not in concepts]
        picked = np.random.default_rng(0).choice(names, len(concepts), replace=False)
        own = dict(zip(("as drawn", "roughened"), describe(drawn(icon_set, picked)), strict=True))
        # The sets' numbers, without the twin's; -1 is the set asked about.
        rest = data["style"] != (list(STYLES).index(twin) if twin else -1)
        rows, shown = np.flatnonzero(~known & rest), np.flatnonzero(data["test"] & rest)
        net = fit(clean[rows], rough[rows], data["style"][rows])
        gallery = embedded(net, np.concatenate([own["as drawn"], clean[shown]]))
        style = np.concatenate([np.full(len(picked), -1), data["style"][shown]])
        # Each icon of the set asked about is a concept of its own; the sets' are others.
        concept = np.concatenate([np.arange(len(picked)), np.full(len(shown), -1)])
        for kind, of in own.items():
            found = style[nearest(embedded(net, of), gallery, np.arange(len(picked)), concept)]
            figures[kind][name] = float((found == -1).mean())
    return figures


def drawn(icon_set: dict, names: np.ndarray) -> np.ndarray:
    return np.stack([picture for n in names if (picture := draw(icon_set, n)) is not None])


def embedded(net: StyleNet, of: np.ndarray) -> Tensor:
    vectors = F.normalize((torch.from_numpy(of).float() - net.mean) @ net.projection, dim=1)
    assert vectors.isfinite().all()  # argmax takes nan for the nearest
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--leave-one-out", action="store_true", help="measure; writes no weights")
    parser.add_argument("--others", action="store_true", help="measure on three more sets")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = load_all(args.work, args.npm)
    print(f"{len(data['pixels'])} icons, {int(data['test'].sum())} of them to test on", flush=True)
    began = time.process_time()
    if args.leave_one_out:
        print(json.dumps(leave_one_out(data), indent=1))
    elif args.others:
        print(json.dumps(others(data, args.npm or args.work / "npm"), indent=1))
    else:
        from safetensors.torch import save_file

        # Every set, and the starter's concepts too: what is shipped should know all it can.
        net = fit(*describe(data["pixels"]), data["style"])
        args.out.mkdir(parents=True, exist_ok=True)
        # Half precision: cosines change by less than a thousandth.
        save_file(
            {k: v.half().contiguous() for k, v in net.state_dict().items()}, args.out / WEIGHTS_FILE
        )
        print(args.out / WEIGHTS_FILE)
    print(f"{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
