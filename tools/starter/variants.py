"""The same icon in many hands: SVGs whose ink, fills, palette, ground and size are drawn at random.

    python tools/starter/variants.py --npm FOLDER --sheet variants.png

What is said of a picture (its `Facts`) is said only if it is true of what was drawn: an outline
only if the picture changes with it, a number of colours only as counted in its pixels.
"""

from __future__ import annotations

import argparse
import colorsys
import io
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from colours import WORDS, hexed, main_word, rgb, word_of
from sets import IconSet, alike, concepts, held_out, near_copies, training_sets

SIZE = 64
LARGE = 128  # drawn at, then averaged to SIZE
_COLOUR = re.compile(r"(?<!url\()(?<!href=\")#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")
_GRADIENT = re.compile(r"<(linear|radial)Gradient\b([^>]*?)(?:/>|>(.*?)</\1Gradient>)", re.DOTALL)
NUMBERS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Facts:
    """What is true of a picture. An empty string: nothing to say."""

    look: str = ""  # "line drawing", "silhouette", "black outline", "thick red outline"
    colours: str = ""  # "two colours", "pastel", "dark colours", "grey tones"
    flat: bool = False  # even fills in at most four colours
    colour: str = ""  # the colour of the thing, or of its ink
    ground: str = ""  # "navy"; white isn't said
    word: str = ""  # the word of the set's own style, if nothing was changed
    natural: bool = True  # the colours are the icon's own


@dataclass(frozen=True)
class Hand:
    """How a picture is to be drawn."""

    fill: str = "keep"  # keep, flat, one, none
    ink: str = ""  # of an outline; empty: none
    width: float = 0.0  # of the outline, in hundredths of the icon's
    paint: str = "as is"  # as is, palette, mono, hue, pastel, grey, dark
    ground: str = "#ffffff"
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    seed: int = 0  # of palettes


INKS = ("#000000", "#000000", "#1a1a1a", "#16224f", "#3b2417")


def some_colour(rng: random.Random, words=tuple(WORDS)) -> str:
    """A colour near one of a word's, still called by that word."""
    while True:
        word = rng.choice(words)
        colour = [x + rng.uniform(-0.06, 0.06) for x in rgb(rng.choice(WORDS[word]))]
        colour = [min(1.0, max(0.0, x)) for x in colour]
        if word_of(colour) == word:
            return hexed(colour)


def draw_hand(kind: str, rng: random.Random) -> Hand:
    """A random hand for an icon of a set in colours or of glyphs."""
    hand = Hand(
        scale=rng.uniform(0.9, 1.0),
        shift=(rng.uniform(-0.015, 0.015), rng.uniform(-0.015, 0.015)),
        seed=rng.randrange(1 << 30),
    )
    if rng.random() < 0.22:
        hand = replace(hand, ground=some_colour(rng, [w for w in WORDS if w != "white"]))
    ink = rng.choice(INKS) if rng.random() < 0.75 else some_colour(rng)
    if kind == "glyph":
        # A glyph has one colour; some are given a fill, which their outline then closes.
        paint = rng.choices(["black", "some"], [1, 1])[0]
        return replace(hand, fill="glyph", ink="#000000" if paint == "black" else ink)
    fill = rng.choices(["keep", "flat", "one", "none"], [62, 22, 4, 12])[0]
    outline = fill == "none" or rng.random() < (0.35 if fill == "one" else 0.6)
    paint = rng.choices(
        ["as is", "palette", "mono", "hue", "pastel", "grey", "dark"], [62, 8, 3, 12, 7, 3, 5]
    )[0]
    return replace(
        hand,
        fill=fill,
        paint="as is" if fill in ("one", "none") else paint,
        ink=ink if outline else "",
        width=rng.choice((1.4, 2.0, 2.8, 3.6, 4.6)) * rng.uniform(0.85, 1.15) if outline else 0.0,
    )


def painter(hand: Hand):
    """A function from colour to colour, (r, g, b) from 0 to 1."""
    rng = random.Random(hand.seed)
    count = rng.randint(2, 4) if hand.fill == "flat" else rng.randint(3, 7)
    palette = [rgb(some_colour(rng)) for _ in range(count)]
    palette.sort(key=lambda c: 0.3 * c[0] + 0.6 * c[1] + 0.1 * c[2])
    hue, turn = rng.random(), rng.uniform(0.12, 0.88)

    def paint(colour):
        light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
        h, s, v = colorsys.rgb_to_hsv(*colour)
        match hand.paint:
            case "palette":
                return palette[min(count - 1, int(light * count))]
            case "mono":
                return colorsys.hsv_to_rgb(hue, 0.25 + 0.6 * (1 - light), 0.3 + 0.68 * light)
            case "hue":
                return colorsys.hsv_to_rgb((h + turn) % 1, s, v)
            case "pastel":
                return colorsys.hsv_to_rgb(h, s * 0.42, 0.68 + 0.32 * v)
            case "grey":
                return (light, light, light)
            case "dark":
                return colorsys.hsv_to_rgb(h, s, v * 0.55)
        return colour

    return paint


def without_gradients(body: str) -> str:
    """Each gradient that fills a shape replaced by the mean of its stops."""
    means: dict[str, str] = {}
    inherits: dict[str, str] = {}
    for _, head, stops in _GRADIENT.findall(body):
        name = re.search(r'\bid="([^"]+)"', head)
        if not name:
            continue
        found = [rgb(code) for code in re.findall(r'stop-color[:=]"?\s*(#[0-9a-fA-F]{3,6})', stops)]
        if found:
            means[name.group(1)] = hexed(np.mean(found, axis=0))
        elif parent := re.search(r'href="#([^"]+)"', head):
            inherits[name.group(1)] = parent.group(1)
    for name, parent in inherits.items():
        if parent in means:
            means[name] = means[parent]
    return re.sub(r"url\(#([^)]+)\)", lambda m: means.get(m.group(1), m.group(0)), body)


def svg(icon_set: IconSet, name: str, hand: Hand) -> str:
    """The icon as this hand draws it, on nothing."""
    icon = icon_set.data["icons"][name]
    width = icon.get("width", icon_set.data.get("width", 16))
    height = icon.get("height", icon_set.data.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"]
    if hand.fill == "glyph":
        body = body.replace("currentColor", hand.ink)
    if hand.fill in ("flat", "one"):
        body = without_gradients(body)
    if hand.paint != "as is":
        paint = painter(hand)
        body = _COLOUR.sub(lambda m: hexed(paint(rgb(m.group(1)))), body)
    if hand.fill == "flat":
        body = re.sub(r"\s(fill-|stroke-)?opacity=\"[^\"]*\"", "", body)
    if hand.fill == "one":
        one = some_colour(random.Random(hand.seed))
        body = re.sub(r'fill="(?!none)[^"]*"', f'fill="{one}"', body)
        body = re.sub(r"fill:\s*(?!none)[^;\"]+", f"fill:{one}", body)
    if hand.fill == "none":
        body = re.sub(r'fill="[^"]*"', 'fill="none"', body)
        body = re.sub(r"fill:\s*[^;\"]+", "fill:none", body)
        body = re.sub(r'stroke="(?!none)[^"]*"', f'stroke="{hand.ink}"', body)
    attributes, margin = "", width * hand.width / 100
    if hand.ink and hand.fill != "glyph":
        attributes = (
            f' stroke="{hand.ink}" stroke-width="{margin:.3f}" '
            'stroke-linejoin="round" stroke-linecap="round"'
        )
        if hand.fill == "none":
            attributes += ' fill="none"'
    w, h = (width + margin) / hand.scale, (height + margin) / hand.scale
    x = left - (w - width) / 2 + hand.shift[0] * width
    y = top - (h - height) / 2 + hand.shift[1] * height
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{LARGE}" height="{LARGE}" viewBox="{x:.3f} {y:.3f} {w:.3f} {h:.3f}">'
        f"<g{attributes}>{body}</g></svg>"
    )


def rendered(text: str) -> np.ndarray:
    """An SVG as uint8 (LARGE, LARGE, 4)."""
    import resvg_py
    from PIL import Image

    return np.asarray(
        Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text)))).convert("RGBA")
    )


def reduced(large: np.ndarray, ground: str) -> np.ndarray:
    """RGBA on a ground, averaged to uint8 (SIZE, SIZE, 3)."""
    alpha = large[..., 3:].astype(np.float32) / 255
    flat = large[..., :3] * alpha + 255 * np.array(rgb(ground), dtype=np.float32) * (1 - alpha)
    step = LARGE // SIZE
    return flat.reshape(SIZE, step, SIZE, step, 3).mean((1, 3)).round().astype(np.uint8)


def even_colours(large: np.ndarray) -> int | None:
    """How many colours fill what is drawn, if at most four fill nine tenths of it evenly."""
    solid = large[large[..., 3] == 255][:, :3]
    if len(solid) < 100:
        return None
    codes = solid.astype(np.int64) @ np.array([65536, 256, 1])
    _, counts = np.unique(codes, return_counts=True)
    counts = np.sort(counts)[::-1]
    kept = counts[counts >= 0.03 * len(solid)]
    return len(kept) if len(kept) <= 4 and kept.sum() >= 0.9 * len(solid) else None


def facts(hand: Hand, large: np.ndarray, bare: np.ndarray | None, word: str | None) -> Facts:
    """What is true of a drawn icon. `bare` is the same without its outline."""
    solid = large[large[..., 3] > 200][:, :3] / 255
    share = (large[..., 3] > 128).mean()
    said = Facts(ground="" if hand.ground == "#ffffff" else word_of(rgb(hand.ground)))
    ink = word_of(rgb(hand.ink)) if hand.ink else ""
    if hand.fill == "glyph":
        # One ink. Thin and open is a line drawing, filled and closed a silhouette.
        look = "line drawing" if share < 0.22 else "silhouette" if share > 0.38 else "icon"
        one = {"flat": True, "colours": "one colour", "natural": False}
        return replace(said, look=look, colour=ink, **one)
    if hand.fill == "none":
        look = "line drawing" if share < 0.4 else ""
        return replace(said, look=look, colour=ink, natural=False)
    if bare is not None:
        changed = np.abs(large.astype(int) - bare.astype(int)).max(2) > 60
        if changed.mean() > 0.015:
            thick = "thick " if hand.width > 3.4 else "thin " if hand.width < 1.7 else ""
            said = replace(said, look=f"{thick}{ink} outline")
        solid = bare[bare[..., 3] > 200][:, :3] / 255
    count = even_colours(bare if bare is not None else large)
    if count:
        said = replace(said, flat=True)
        if count > 1 or hand.fill == "one":
            said = replace(said, colours=f"{NUMBERS[count]} colour" + "s" * (count > 1))
    named = {"pastel": "pastel colours", "dark": "dark colours", "grey": "grey tones"}
    if hand.paint in named:
        said = replace(said, colours=named[hand.paint])
    thing = "" if hand.paint == "grey" else main_word(solid[:: max(1, len(solid) // 600)])
    said = replace(said, colour=thing or "")
    untouched = hand.fill == "keep" and hand.paint == "as is" and not hand.ink
    natural = hand.fill != "one" and hand.paint == "as is"
    return replace(said, word=word if untouched and word else "", natural=natural)


def variant(icon_set: IconSet, name: str, rng: random.Random, hand: Hand | None = None):
    """uint8 (64, 64, 3) and its Facts; None if nothing can be seen in it."""
    hand = hand or draw_hand(icon_set.kind, rng)
    large = rendered(svg(icon_set, name, hand))
    bare = None
    if hand.ink and hand.fill in ("keep", "flat", "one"):
        bare = rendered(svg(icon_set, name, replace(hand, ink="")))
        bare = large if bare.shape != large.shape else bare
    picture = reduced(large, hand.ground)
    apart = np.abs(picture.astype(int) - (255 * np.array(rgb(hand.ground))).astype(int)).max(2)
    if (apart > 50).mean() < 0.03:
        return None
    return picture, facts(hand, large, bare, icon_set.word)


def icons(sets: list[IconSet]) -> list[tuple[int, int, str]]:
    """(set, concept, name) of every icon that training may see."""
    kept_back, copies, found = held_out(), near_copies(), []
    for s, icon_set in enumerate(sets):
        for c, concept in enumerate(concepts()):
            if (concept, icon_set.drawings) not in kept_back:
                names = icon_set.find(concept)
                found += [(s, c, n) for n in names if (icon_set.package, n) not in copies]
    return found


def chosen(sets: list[IconSet]) -> dict[tuple[int, int, str], bool]:
    """Those of `icons` that are alike -> whether they are mirrored (alike.py)."""
    kept = alike()
    found = {i: (concepts()[i[1]], sets[i[0]].package, i[2]) for i in icons(sets)}
    return {icon: kept[key] for icon, key in found.items() if key in kept}


def main() -> None:
    from captions import caption
    from PIL import Image, ImageDraw

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--npm", type=Path, required=True, help="npm's @iconify-json folder")
    parser.add_argument("--sheet", type=Path, default=Path("variants.png"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sets, rng = training_sets(args.npm), random.Random(args.seed)
    colour = [icon for icon in chosen(sets) if sets[icon[0]].kind == "colour"]
    glyph = [icon for icon in chosen(sets) if sets[icon[0]].kind == "glyph"]
    page = Image.new("RGB", (8 * 190, 12 * 72), "white")
    pen = ImageDraw.Draw(page)
    for i in range(96):
        made = None
        while made is None:
            s, c, name = rng.choice(colour if rng.random() < 0.8 else glyph)
            made = variant(sets[s], name, rng)
        x, y = i % 8 * 190, i // 8 * 72
        page.paste(Image.fromarray(made[0]), (x, y))
        for k, part in enumerate(re.findall(r".{1,20}(?: |$)", caption(c, made[1], rng))):
            pen.text((x + 66, y + 2 + 12 * k), part, fill="black")
    page.save(args.sheet)


if __name__ == "__main__":
    main()
