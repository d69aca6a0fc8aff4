"""A term list out of what the base model gets wrong in real training recordings.

    python benchmarks/real_terms.py --data speechocean762/train.jsonl --out terms.txt
    mmtune train terminology --data speechocean762 --terms terms.txt --retention general-en.jsonl

The base transcribes the training rows. A word becomes a term if it is spoken in at least three of
them and the base writes at most half of its occurrences. Test rows aren't looked at.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="manifest of training rows")
    parser.add_argument("--out", type=Path, required=True, help="the term list to write")
    parser.add_argument("--base", default="starter:whisper-tiny.en")
    parser.add_argument("--rows", type=int, default=3, help="fewest rows with the word")
    parser.add_argument("--most", type=float, default=0.5, help="highest recall of the base")
    options = parser.parse_args()

    import mmtune
    from mmtune.metrics.text.normalize import normalize
    from mmtune.metrics.text.term_recall import TermRecall
    from mmtune.predict import Prediction
    from mmtune.speech.sound.read import read_row
    from mmtune.speech.transcription.predictor import SpeechPredictor
    from mmtune.speech.transcription.transcribe import listen
    from mmtune.speech.transcription.transcript import make_transcript

    rows = [row for row in mmtune.check(options.data, "speech").rows if row.split == "train"]
    language = "en"
    predictor = SpeechPredictor(options.base, {}, language=language)
    found, heard = listen(predictor, [read_row(row) for row in rows], weights={})
    texts = [make_transcript(each, heard).text for each in found]
    counts = Counter(word for row in rows for word in set(normalize(row.text, language).split()))
    listed = []
    for word, count in sorted(counts.items()):
        if count < options.rows:
            continue
        metric = TermRecall({word}, language)
        stats = [
            metric.observe(row, Prediction(row.id, text))
            for row, text in zip(rows, texts, strict=True)
        ]
        if (recall := metric.reduce(stats)) <= options.most:
            listed.append(word)
            print(f"{word:<16} {count:>3} rows   recall of the base {recall:.2f}")
    options.out.write_text("".join(f"{word}\n" for word in listed), encoding="utf-8")
    print(f"{len(listed)} terms in {options.out}")


if __name__ == "__main__":
    main()
