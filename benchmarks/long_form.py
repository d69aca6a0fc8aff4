"""What joining utterances into long recordings costs: 10-minute joins against their parts.

    python benchmarks/long_form.py --data TEST.jsonl --base BASE [--adapter runs/NAME …]

Utterances of a manifest are joined in a fixed random order, with pauses of 0.2 to 1.5 s, into
recordings of some minutes. Base and adapters transcribe the recordings as `mmtune transcribe`
does, and each utterance by itself on Whisper's 30 s window, as the comparison does. Differences
are of corpus WER, in points; brackets are 95 % bootstrap intervals over the recordings' speakers,
or over the recordings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def joins(manifest: Path, minutes: float, most: int, seed: int) -> list[tuple[list, NDArray]]:
    """(rows, samples) of each recording; rows are used once."""
    import mmtune
    from mmtune.speech.sound.read import SAMPLE_RATE, read_row

    rows = mmtune.check(manifest, "speech").rows
    draw = np.random.default_rng(seed)
    found: list[tuple[list, NDArray]] = []
    chosen, pieces, length = [], [], 0
    for place in draw.permutation(len(rows)):
        pause = np.zeros(int(draw.uniform(0.2, 1.5) * SAMPLE_RATE), np.float32)
        pieces += [read_row(rows[place]), pause]
        chosen.append(rows[place])
        length += len(pieces[-2]) + len(pause)
        if length >= minutes * 60 * SAMPLE_RATE:
            found.append((chosen, np.concatenate(pieces)))
            chosen, pieces, length = [], [], 0
            if len(found) == most:
                break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="manifest of speech with text")
    parser.add_argument("--base", default="starter:whisper-tiny.en")
    parser.add_argument("--adapter", type=Path, action="append", default=[], metavar="RUN")
    parser.add_argument("--language", default="en")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--recordings", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from jiwer import process_words

    from mmtune.metrics.text.normalize import normalize
    from mmtune.predict import Request
    from mmtune.speech.transcription.predictor import SpeechPredictor
    from mmtune.speech.transcription.transcribe import listen
    from mmtune.speech.transcription.transcript import make_transcript
    from mmtune.system.quiet import quiet_libraries

    quiet_libraries()
    adapters = {path.name: path for path in options.adapter}
    predictor = SpeechPredictor(options.base, adapters, language=options.language)
    recordings = joins(options.data, options.minutes, options.recordings, options.seed)
    models: dict[str, dict[str, float]] = {"base": {}} | {n: {n: 1.0} for n in adapters}
    rows = [row for chosen, _ in recordings for row in chosen]
    asked = [Request(row, weights) for row in rows for weights in models.values()]
    parts = predictor.predict(asked)

    def errors(pairs: list[tuple[str, str]]) -> tuple[int, int]:
        found = process_words(*map(list, zip(*pairs, strict=True)))
        wrong = found.substitutions + found.deletions + found.insertions
        return wrong, found.substitutions + found.deletions + found.hits

    def plain(text: str) -> str:
        return normalize(text, options.language)

    minutes = sum(len(audio) for _, audio in recordings) / 16_000 / 60
    print(
        f"{options.base}: {len(recordings)} recordings, {minutes:.1f} minutes, {len(rows)} rows\n"
    )
    print("| model | WER of the parts | WER of the joins | difference, points | each join |")
    print("|---|---|---|---|---|")
    for i, (name, weights) in enumerate(models.items()):
        alone = [(plain(row.reference), plain(str(parts[j * len(models) + i].value)))
                 for j, row in enumerate(rows)]  # fmt: skip
        joined, gaps, start = [], [], 0
        for chosen, audio in recordings:
            found, language = listen(predictor, [audio], weights=weights)
            text = plain(make_transcript(found[0], language).text)
            joined.append((plain(" ".join(row.reference for row in chosen)), text))
            own = alone[start : start + len(chosen)]
            start += len(chosen)
            (a, n), (b, m) = errors(own), errors(joined[-1:])
            gaps.append(100 * (b / m - a / n))
        (a, n), (b, m) = errors(alone), errors(joined)
        each = ", ".join(f"{gap:+.1f}" for gap in gaps)
        print(f"| {name} | {a / n:.3f} | {b / m:.3f} | {100 * (b / m - a / n):+.1f} | {each} |")


if __name__ == "__main__":
    main()
