"""Captions: what a picture shows, and of how it is drawn what is true, in varied words."""

from __future__ import annotations

import random

from sets import concepts, said
from variants import Facts

NOUNS = [said(c) for c in concepts()]
INKS = ("line drawing", "silhouette", "icon")  # looks whose colour is that of their ink
MANY = ("fries", "grapes", "glasses", "scissors", "jeans", "trousers", "cherries", "bread")
LONGEST = 18  # words and commas; the encoder's last positions are for the picture


def made_up_word(rng: random.Random) -> str:
    """A pronounceable word that means nothing, such as a brand's name."""
    syllables = [rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(3)]
    return "".join(syllables)[: rng.randint(4, 6)]


def noun(concept: int, rng: random.Random, first: bool = False) -> str:
    """A word for the concept: usually its own name."""
    words = NOUNS[concept]
    return words[0] if first or rng.random() < 0.7 else rng.choice(words)


def coloured(name: str, colour: str) -> str:
    """'automobile', 'blue' -> 'blue automobile'; a colour in the name gives way."""
    for own in ("red ", "green "):
        name = name.removeprefix(own) if colour else name
    return f"{colour} {name}".strip()


def parts(facts: Facts) -> list[str]:
    """All that can be said about how it is drawn, ground excepted."""
    found = [facts.look] if facts.look and facts.look != "icon" else []
    if facts.flat and facts.colours.endswith(("colour", "colours")):
        found.append(f"flat, {facts.colours}" if facts.colours[0] in "otf" else facts.colours)
    elif facts.flat:
        found += ["flat"] + ([facts.colours] if facts.colours else [])
    elif facts.colours:
        found.append(facts.colours)
    return found


def caption(concept: int, facts: Facts, rng: random.Random) -> str:
    """One of the captions that are true of a picture.

    A ground in colour is always said, so that without a word the ground is white.
    """
    name = noun(concept, rng)
    how = parts(facts)
    kind = rng.random()
    said_parts: list[str] = []
    if facts.word and kind < 0.65:
        said_parts = [f"{facts.word} style"]
        if rng.random() < 0.25:
            name = coloured(name, facts.colour)
    elif kind < (0.75 if facts.word else 0.15 if facts.natural else 0.05):
        said_parts = [f"{made_up_word(rng)} style"]
    elif rng.random() < (0.4 if facts.natural else 0.03):
        pass  # plainly what it shows
    else:
        keep = rng.choices([1, 2, 3], [5, 3, 2])[0]
        said_parts = rng.sample(how, min(keep, len(how)))
        ink = facts.look in INKS
        if facts.colour and (ink or rng.random() < 0.6 or not said_parts):
            if ink and said_parts and rng.random() < 0.5:
                if facts.colour != "black" or rng.random() < 0.3:
                    said_parts[0] = f"{facts.colour} {said_parts[0]}"
            elif facts.colour != "black" or rng.random() < 0.5:
                name = coloured(name, facts.colour)
    form = rng.random()
    if form < 0.2 and not name.endswith(MANY):
        name = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    elif form < 0.27:
        name = f"{name} icon"
    text = name
    if facts.ground and rng.random() < 0.6:
        text, ground = f"{name} on {facts.ground}", ""
    else:
        ground = f"on {facts.ground}" if facts.ground else ""
    tail = said_parts + ([ground] if ground else [])
    rng.shuffle(tail)
    text = ", ".join([text, *tail])
    return text if len(text.replace(",", " ,").split()) <= LONGEST else name


def corpus(rng: random.Random, n: int = 0) -> list[str]:
    """Texts from which the tokenizer takes its words."""
    from colours import WORDS

    texts = [word for words in NOUNS for word in words] * 3
    texts += [f"{w} outline, thick {w} outline, thin {w} outline, on {w}" for w in WORDS] * 3
    texts += [
        "line drawing, silhouette, icon, flat, one colour, two colours, three colours, four "
        "colours, pastel colours, dark colours, grey tones, style, a, an, on, in, of, the, with"
    ] * 6
    texts += ["noto style, blob style, twemoji style, emojione style, streamline style"] * 6
    return texts + [f"{made_up_word(rng)} style" for _ in range(n)]
