"""What a term list costs where nobody says its terms, and what it finds where somebody does.

    python benchmarks/term_damage.py --data general-en.jsonl [--data calls.jsonl] [--rows 300]

Rows of real speech without any term of the list are transcribed without a list, and with lists of
60 and of 10,000 made-up names: a third like drugs, a third like surnames, a third like products
(everyday words with changed letters, which resemble speech most). Damage is the number of words
that the list changes in 100 words, with a 95 % interval that resamples speakers. Rows of the
manifest that name `terms` give their recall; these terms are added to each list.

"before" takes the whole text of the second pass, as mmtune did; "after" takes only its terms. Both
come from the same two passes.
"""

from __future__ import annotations

import argparse
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from terms import lookalikes

if TYPE_CHECKING:
    from mmtune.speech.speech_row import SpeechRow

SIZES = (60, 10_000)
# Beginnings, middles and ends of surnames, and ends of products.
STARTS = (
    "Al Bern Cald Dorn Esch Fair Gold Hart Ives Kess Lind Marl North Ost Penn Rath Sand Thorn Ulm"
)
MIDDLES = "a an be ber e en er i in le o ow u"
ENDS = "bach berg brook dale er feld ford ham hurst ington ley man more sen son ton wood"
BENDS = "a al ex ia ify io ix o ora ym"


def surnames(draw: np.random.Generator) -> str:
    """A made-up surname."""
    middle = draw.choice(MIDDLES.split()) if draw.random() < 0.5 else ""
    return f"{draw.choice(STARTS.split())}{middle}{draw.choice(ENDS.split())}"


def products(draw: np.random.Generator, words: Sequence[str]) -> str:
    """A made-up product: an everyday word with another letter and perhaps an ending."""
    word = str(draw.choice(words))
    place = int(draw.integers(1, len(word)))
    letter = draw.choice(list(string.ascii_lowercase))
    end = draw.choice(BENDS.split()) if draw.random() < 0.5 else ""
    return f"{word[:place]}{letter}{word[place + 1 :]}{end}".capitalize()


def made_up(count: int, taken: set[str], seed: int) -> list[str]:
    """Names in equal parts like drugs, like surnames and like products; none is in `taken`."""
    from mmtune.metrics.text.term_finder import everyday_words, term_key

    draw = np.random.default_rng(seed)
    everyday = everyday_words("en")
    words = sorted(word for word in everyday if len(word) > 3)
    drugs = lookalikes(count, taken, seed)
    known = set(taken)
    found: list[str] = []
    while len(found) < count:
        kind = len(found) % 3
        name = (
            drugs[len(found)]
            if kind == 0
            else surnames(draw)
            if kind == 1 and draw.random() < 0.9  # surnames run out
            else products(draw, words)
        )
        key = term_key(name)
        if key not in known and key.lower() not in everyday:
            known.add(key)
            found.append(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="a manifest; may be repeated"
    )
    parser.add_argument("--base", default="starter:whisper-base", help="the base model")
    parser.add_argument("--rows", type=int, default=300, help="utterances without terms")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of terms")
    parser.add_argument("--seed", type=int, default=0, help="of the lists and the choice of rows")
    parser.add_argument("--changes", action="store_true", help="print each replaced span")
    options = parser.parse_args()

    import jiwer

    from mmtune.data.check import check
    from mmtune.metrics.bootstrap import bootstrap
    from mmtune.metrics.text.normalize import normalize
    from mmtune.metrics.text.term_finder import TermFinder, term_key
    from mmtune.metrics.text.term_recall import TermRecall
    from mmtune.predict import Prediction, Request
    from mmtune.speech.corpus.speech_reader import READER
    from mmtune.speech.evaluation.term_baselines import Retrieving, TermList, heard_of
    from mmtune.speech.speech_row import speech_rows
    from mmtune.speech.transcription.predictor import SpeechPredictor
    from mmtune.speech.whisper.fallback import agrees
    from mmtune.system.quiet import quiet_libraries

    quiet_libraries()
    rows = [row for path in options.data for row in speech_rows(check(path, READER).rows)]
    named = {term for row in rows for term in row.terms}
    spoken = [row for row in rows if row.terms]
    order = np.random.default_rng(options.seed).permutation(len(rows))
    plain = [rows[i] for i in order if not rows[i].terms and rows[i].text]
    predictor = SpeechPredictor(options.base, {}, language="en")
    print(
        "| terms | text | rows | speakers | words changed in 100 | rows changed | recall | s/row |"
    )
    print("|---" * 8 + "|")
    for size in map(int, options.sizes.split(",")):
        listed = [
            *sorted(named),
            *made_up(size - len(named), {*map(term_key, named)}, options.seed),
        ]
        finder = TermFinder(listed)
        without = [row for row in plain if not finder.find(row.text)][: options.rows]
        model = Retrieving(predictor, TermList(tuple(listed), {}))
        chosen: list[SpeechRow] = [*without, *spoken]
        began = time.perf_counter()
        passes: dict[int, tuple[Prediction, Prediction | None, list[str]]] = {}
        requests = [Request(row) for row in chosen]
        for batch in model.batches(requests):
            found = model.passes([requests[i] for i in batch])
            passes |= dict(zip(batch, found, strict=True))
        seconds = (time.perf_counter() - began) / len(chosen)
        for name in ("before", "after"):
            stats, hits = [], []
            for i, row in enumerate(chosen):
                first, second, retrieved = passes[i]
                heard = first
                if name == "after":
                    heard = model.join(first, second, retrieved)
                elif second is not None and agrees(heard_of(first), heard_of(second)):
                    heard = second
                if i >= len(without):
                    hits.append(TermRecall(named).observe(row, heard))
                    continue
                texts = [normalize(str(each.value)) for each in (first, heard)]
                edits = jiwer.process_words(*texts)
                wrong = edits.substitutions + edits.deletions + edits.insertions
                stats.append(np.array([wrong, len(texts[0].split()), wrong > 0], dtype=float))
                if wrong and options.changes:
                    print(f"  {name}: {first.value!r} -> {heard.value!r}")
            speakers = [row.speaker or row.id for row in without]
            damage = bootstrap(
                stats, lambda some: 100 * some[:, 0].sum() / some[:, 1].sum(), clusters=speakers
            )
            recall = str(bootstrap(hits, TermRecall(named).reduce)) if hits else "no terms"
            print(
                f"| {size:,} | {name} | {len(without)} | {len(set(speakers))} | {damage} | "
                f"{int(sum(each[2] for each in stats))} | {recall} | {seconds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
