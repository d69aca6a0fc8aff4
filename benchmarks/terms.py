"""Terms by prompt, by retrieval out of 100,000, and by adapter, and what each costs.

    python benchmarks/terms.py --run runs/terminology [--terms 100000]

The test rows of a terminology run are transcribed as `mmtune transcribe` does: without help, with
a plain prompt (as much of a list as its 223 tokens hold), and with retrieval from the list, each
with the base and with the run's adapter. The list holds the run's terms, seen and unseen, among
made-up names of drugs with the same beginnings and endings.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

STARTS = (
    "a e i o be ce da di em fi ga hy le lo ma mi ne ni ola pa pro que ra ri ro sa si ta ti va ve zo"
)
MIDDLES = (
    "ba ci cla cy da di do fa flu ga gli ki la li lo ma mi na no pi pra ra ri ro so ta tra va vi xa"
)
ENDS = (
    "olol azole pril sartan statin mab nib tidine oxin cillin mycin azepam idone oxetine apine "
    "gliptin gliflozin tide parin xaban itis ectomy osis emia pathy centesis urea amide phylline"
)


def lookalikes(count: int, taken: set[str], seed: int) -> list[str]:
    """Made-up names of drugs and diseases, none of them in `taken`."""
    draw = np.random.default_rng(seed)
    starts, middles, ends = STARTS.split(), MIDDLES.split(), ENDS.split()
    found: dict[str, None] = {}
    while len(found) < count:
        inner = "".join(draw.choice(middles, int(draw.integers(1, 4))))
        name = f"{draw.choice(starts)}{inner}{draw.choice(ends)}"
        if name not in taken:
            found[name] = None
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished terminology run")
    parser.add_argument("--terms", type=int, default=100_000, help="of the whole list")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import mmtune
    from mmtune.data.check import check
    from mmtune.metrics.bootstrap import bootstrap
    from mmtune.metrics.text.term_recall import FalseInsertions, TermRecall
    from mmtune.metrics.text.wer import WordErrors
    from mmtune.predict import Prediction
    from mmtune.runs.modalities import find_modality
    from mmtune.speech.evaluation.term_slices import divide_terms
    from mmtune.speech.sound.read import read_row
    from mmtune.speech.transcription.predictor import LOADED_ADAPTER, SpeechPredictor
    from mmtune.speech.transcription.retrieve import TermIndex, prompt_with
    from mmtune.speech.transcription.transcribe import listen
    from mmtune.speech.transcription.transcript import make_transcript
    from mmtune.system.quiet import quiet_libraries

    quiet_libraries()
    config = mmtune.load_recipe(options.run / "config.yaml")
    modality = find_modality("speech")
    dataset = check(modality.prepare(config), modality, config.data)
    seen, unseen = divide_terms(config.task, dataset)
    rows = dataset.split("test")
    real = sorted(seen | unseen)
    listed = real + lookalikes(options.terms - len(real), set(real), options.seed)
    listed = [listed[i] for i in np.random.default_rng(options.seed).permutation(len(listed))]
    began = time.perf_counter()
    index = TermIndex(listed)
    made = time.perf_counter() - began

    predictor = SpeechPredictor(
        config.base, {LOADED_ADAPTER: options.run}, language=config.task.language
    )
    clips = [read_row(row) for row in rows]
    minutes = sum(map(len, clips)) / 16_000 / 60
    first = prompt_with(predictor.base, [(term, 1.0) for term in listed], None)
    language = config.task.language
    metrics = {
        "recall, seen": TermRecall(seen, language),
        "recall, unseen": TermRecall(unseen, language),
        "false insertions": FalseInsertions(seen | unseen, language),
        "WER": WordErrors(language),
    }
    size = f"{len(listed):,} terms, indexed in {made:.1f} s"
    print(f"{config.base}: {len(rows)} rows, {minutes:.1f} minutes; {size}\n")
    print(f"| model | help | {' | '.join(metrics)} | seconds a minute of audio |")
    print("|---" * (len(metrics) + 3) + "|")
    for model, weights in (("base", {}), ("adapter", {LOADED_ADAPTER: 1.0})):
        for help_, given in (
            ("none", {}), ("plain prompt", {"prompt": first}), ("retrieval", {"terms": index}),
        ):  # fmt: skip
            began = time.perf_counter()
            found, heard = listen(predictor, clips, weights=weights, **given)
            seconds = time.perf_counter() - began
            texts = [make_transcript(each, heard).text for each in found]
            cells = []
            for metric in metrics.values():
                stats = [
                    metric.observe(row, Prediction(row.id, text))
                    for row, text in zip(rows, texts, strict=True)
                ]
                cells.append(str(bootstrap(stats, metric.reduce)))
            print(
                f"| {model} | {help_} | {' | '.join(cells)} | {seconds / minutes:.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
