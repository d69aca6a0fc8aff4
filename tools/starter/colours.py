"""Words for colours, and which word is true of a pixel."""

from __future__ import annotations

import numpy as np

# Several of one word: a word is a region and not a point.
WORDS: dict[str, tuple[str, ...]] = {
    "red": ("#e02020", "#c01818", "#f04030", "#a01010"),
    "orange": ("#ff8c1a", "#f07000", "#ffa640"),
    "yellow": ("#ffd91a", "#f5c518", "#ffe666"),
    "green": ("#2e9e3f", "#5fb53a", "#1e7a2e", "#7cc94f", "#3f5f1f"),
    "teal": ("#159a90", "#1ab5b0", "#0f6f6f"),
    "blue": ("#2a6fdb", "#1f4fc0", "#3d8bf0", "#2233d0"),
    "light blue": ("#7cc0f5", "#a5d8f8", "#5ab4ee"),
    "navy": ("#16224f", "#101a3a", "#23305f"),
    "purple": ("#7a3cc0", "#5b2a90", "#9a5ad8", "#8030a0"),
    "pink": ("#f27ab0", "#ff9ec8", "#e84a9a", "#f8b8d0"),
    "brown": ("#7a4a24", "#5a3418", "#9a6436", "#4a2a14"),
    "beige": ("#e8d2ac", "#d8bf94", "#f0e0c4"),
    "black": ("#000000", "#161616", "#242424"),
    "grey": ("#808080", "#606060", "#a0a0a0", "#454a50", "#90a0a8"),
    "light grey": ("#c8c8c8", "#d8dce0", "#b8c0c6"),
    "white": ("#ffffff", "#f2f2f2"),
}
GREYS = ("black", "grey", "light grey", "white")
_LIST = [(word, code) for word, codes in WORDS.items() for code in codes]


def rgb(code: str) -> tuple[float, float, float]:
    """'#f80' or '#ff8800' -> three values from 0 to 1."""
    code = code.removeprefix("#")
    if len(code) == 3:
        code = "".join(2 * c for c in code)
    return tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))


def hexed(colour) -> str:
    """Three values from 0 to 1 -> '#ff8800'."""
    return "#" + "".join(f"{round(255 * min(1, max(0, x))):02x}" for x in colour)


def lab(colours: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) from 0 to 1 -> CIE L*a*b*."""
    c = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    m = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = c @ m.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


_POINTS = lab(np.array([rgb(code) for _, code in _LIST]))
_OF_WORD = np.array([list(WORDS).index(word) for word, _ in _LIST])


def words_of(colours: np.ndarray) -> np.ndarray:
    """The index in WORDS of the nearest word for each colour: (n, 3) from 0 to 1 -> int (n,)."""
    distance = np.square(lab(colours)[:, None] - _POINTS).sum(2)
    return _OF_WORD[distance.argmin(1)]


def word_of(colour) -> str:
    return list(WORDS)[int(words_of(np.array([colour]))[0])]


def main_word(colours: np.ndarray) -> str | None:
    """The one word that names what is coloured among pixels (n, 3), or None if it takes more.

    It has to hold seven tenths of what isn't black, grey or white, and that a third of all.
    """
    if not len(colours):
        return None
    counts = np.bincount(words_of(colours), minlength=len(WORDS))
    names = list(WORDS)
    coloured = {w: int(counts[i]) for i, w in enumerate(names) if w not in GREYS}
    word = max(coloured, key=coloured.get)
    total = sum(coloured.values())
    if total >= len(colours) / 3 and coloured[word] >= 0.7 * total:
        return word
    return None
