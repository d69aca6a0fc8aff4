"""Measure how many private words `mmtune redact` finds, and what it redacts beside them.

    python benchmarks/redaction.py

The corpus was committed before the detectors: 300 generated dialogues with one item of each kind
(benchmarks/private_dialogues.py wrote them), and 60 dialogues written by hand. An item counts as
found if nothing of it is left, whatever kind the detector took it for. The names of a dialogue are
the user's list. The interval of a recall is Wilson's; without a miss its lower end is 1 - 3/n.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mmtune.pages.preference import wilson
from mmtune.privacy.finder import PrivateWordFinder
from mmtune.privacy.private_span import KINDS, PrivateSpan

DATA = Path(__file__).parent / "data"
MARK = re.compile(r"\[\[(?P<kind>\w+)(?:#(?P<number>\d+))?:(?P<words>.*?)\]\]")
POSSESSIVE = re.compile(r"['’]s$")


@dataclass
class Dialogue:
    """Turns of a conversation, with the places of each private item."""

    id: str
    language: str
    region: str
    names: list[str]
    turns: list[str] = field(default_factory=list)
    # kind and parts of each item: turn, start and end
    items: dict[tuple[str, str], list[tuple[int, int, int]]] = field(default_factory=dict)

    def add(self, marked: str) -> None:
        """Add a turn whose private words are marked."""
        text, end = "", 0
        for match in MARK.finditer(marked):
            text += marked[end : match.start()]
            words = POSSESSIVE.sub("", match["words"])
            key = (
                match["kind"],
                f"#{match['number']}" if match["number"] else f"{len(self.items)}",
            )
            place = (len(self.turns), len(text), len(text) + len(words))
            self.items.setdefault(key, []).append(place)
            text += match["words"]
            end = match.end()
        self.turns.append(text + marked[end:])


def read_generated(path: Path = DATA / "private_generated.jsonl") -> list[Dialogue]:
    """Read generated dialogues."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        dialogue = Dialogue(value["id"], value["language"], value["region"], value["names"])
        for _, marked in value["turns"]:
            dialogue.add(marked)
        found.append(dialogue)
    return found


def read_by_hand() -> list[Dialogue]:
    """Read the dialogues that were written by hand."""
    found = []
    text = (DATA / "private_by_hand.txt").read_text(encoding="utf-8")
    for block in text.strip().split("\n\n"):
        head, *turns = block.splitlines()
        name, language, region = head.removeprefix("# ").split()[:3]
        names = [each.strip() for each in head.partition("names:")[2].split(",") if each.strip()]
        dialogue = Dialogue(name, language, region, names)
        for turn in turns:
            dialogue.add(turn.partition(": ")[2])
        found.append(dialogue)
    return found


@dataclass
class Counts:
    """What was found in a set of dialogues."""

    items: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    words: int = 0


def search(dialogue: Dialogue, by_row: bool) -> list[list[PrivateSpan]]:
    """Find the private words of a dialogue: of the whole, or of each turn alone."""
    finder = PrivateWordFinder(names=dialogue.names, regions=[dialogue.region])
    if by_row:
        return [finder.find(turn, dialogue.language) for turn in dialogue.turns]
    return finder.find_in_turns(dialogue.turns, dialogue.language)


def count(dialogues: list[Dialogue], by_row: bool, show: bool) -> Counts:
    """Search all dialogues, and compare with the items."""
    counts = Counts()
    for dialogue in dialogues:
        spans = search(dialogue, by_row)
        covered = [
            {place for span in found for place in range(span.start, span.end)} for found in spans
        ]
        private: dict[int, set[int]] = defaultdict(set)
        counts.words += sum(len(turn.split()) for turn in dialogue.turns)
        for (kind, _), places in dialogue.items.items():
            counts.items[kind] += 1
            left = []
            for turn, start, end in places:
                private[turn] |= set(range(start, end))
                text = dialogue.turns[turn]
                open_ = set(range(start, end)) - covered[turn]
                left += [place for place in open_ if text[place].isalnum()]
            counts.found[kind] += not left
            if left and show:
                words = [dialogue.turns[turn][start:end] for turn, start, end in places]
                print(f"{dialogue.id} missed {kind}: {' … '.join(words)}")
        for turn, found in enumerate(spans):
            for span in found:
                if not private[turn] & set(range(span.start, span.end)):
                    counts.false[span.kind] += 1
                    if show:
                        text = dialogue.turns[turn]
                        print(f"{dialogue.id} false {span.kind}: {text[span.start : span.end]}")
                        print(f"    in: {text}")
    return counts


def print_table(title: str, counts: Counts) -> None:
    """Print recall and false redactions as a table in Markdown."""
    print(f"\n{title} ({counts.words:,} words)\n")
    print("| kind | items | found | recall, 95 % interval | false redactions per 1,000 words |")
    print("|---|---|---|---|---|")
    for kind in [*KINDS, "all"]:
        items = counts.items.total() if kind == "all" else counts.items[kind]
        found = counts.found.total() if kind == "all" else counts.found[kind]
        false = counts.false.total() if kind == "all" else counts.false[kind]
        if not items:
            continue
        low, high = (1 - 3 / items, 1.0) if found == items else wilson(found, items)
        recall = f"{100 * found / items:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        print(f"| {kind} | {items} | {found} | {recall} | {1000 * false / counts.words:.2f} |")


def main() -> None:
    """Print a table for each half of the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=("generated", "by-hand"), help="measure one half alone")
    parser.add_argument("--dialogues", type=Path, metavar="FILE", help="measure others instead")
    parser.add_argument("--by-row", action="store_true", help="search each turn alone")
    parser.add_argument("--show", action="store_true", help="print each miss and false redaction")
    options = parser.parse_args()
    if options.dialogues is not None:
        counts = count(read_generated(options.dialogues), options.by_row, options.show)
        return print_table(options.dialogues.name, counts)
    readers = {"generated": read_generated, "by-hand": read_by_hand}
    for part, reader in readers.items():
        if options.part in (None, part):
            print_table(part, count(reader(), options.by_row, options.show))


if __name__ == "__main__":
    main()
