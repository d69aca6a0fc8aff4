"""Make the runs, adapters and cache entries that `test_stored_runs.py` reads.

    python tests/conformance/stored/make.py [FOLDER]

It was run at commit 213844a, with OMP_NUM_THREADS=1. The files beside it are what that commit
wrote, and stay as they are: a later commit must read them. Run it again only to add a case, on a
new folder.

For each of speech and image it writes a tiny base (the diffusion model's weights are random; the
Whisper was taught four words), twelve rows of data, a recipe with its suite, and then, through the
command line alone:

- `trained/finished`: a whole run;
- `trained/interrupted`: the same run, stopped by SIGTERM between two checkpoints;
- `cache/`: the cache entries of both;
- `expected/`: what a user gets from the finished run's adapter.

All paths in them are relative to the folder that the commands run in.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
KNOWN = ("alpha", "bravo", "charlie", "delta")  # words that the base hears in low voices
TERMS = ("omega", "sigma")  # words that the adapter learns, of low and of high voices
RATE = 16_000
VOWELS = (  # formants: Hz, width, size
    ((700, 150, 1.0), (1200, 200, 0.5), (2600, 300, 0.2)),
    ((300, 100, 1.0), (2300, 250, 0.4), (3000, 300, 0.2)),
)
SPLITS = ["train", "test", "train", "train", "validation", "train"] * 2
STOP_AFTER = 5  # steps; the signal comes when the log has so many

SPEECH = """\
recipe: terminology
modality: speech
name: finished
suite: suite.yaml
base: base
out: trained
data:
  path: data
lora:
  rank: 4
  alpha: 8
  dropout: 0.1
train:
  epochs: 15
  batch_size: 4
  lr: 2.0e-2
  precision: fp32
  checkpoint_every: 4
  validate_every: 20
  scales: [0.5, 1.0]
task:
  terms: terms.txt
  keep_base: 0.5
  probes: 2
  mix:
    joined: 0.1
    nonspeech: 0.1
"""
SPEECH_SUITE = """\
name: stored
modality: speech
main:
  - {metric: term recall, slice: seen terms}
gates:
  - name: sentences
    asks: Are the sentences around the terms written as well as before?
    metric: WER
    slice: test
    end: upper
    at_most: 0.02
    level: must
  - name: general speech
    asks: Does it still hear other speech?
    metric: WER
    slice: general speech
    end: upper
    at_most: 0.05
    level: must
    needs: task.retention
    items_from: task.retention_rows
"""
IMAGE = """\
recipe: brand_style
modality: image
name: finished
suite: suite.yaml
base: base
out: trained
data:
  path: data
lora:
  rank: 2
  alpha: 4
  dropout: 0.1
train:
  epochs: 6
  batch_size: 4
  lr: 1.0e-2
  precision: fp32
  checkpoint_every: 4
  validate_every: 6
  scales: [0.5, 1.0]
task:
  trigger: my
  steps: 2
  guidance: 2.0
  seeds: 2
  validation_images: 2
  scale_images: 2
  copy_captions: 2
  copy_seeds: 1
  backbone: starter:style
  outside_prompts: []
"""
IMAGE_SUITE = """\
name: stored
modality: image
main:
  - {metric: style, slice: held-out captions}
gates:
  - name: style
    asks: Does it go a fifth of the way to the brand, at least?
    metric: style
    slice: held-out captions
    of: adapter
    end: lower
    at_least: 0.2
    level: must
  - name: copies
    asks: Does it draw new things instead of training images?
    metric: copies
    slice: training captions
    of: adapter
    end: upper
    at_most: 0.1
    level: must
    events: true
    needs: task.copy_seeds
    items_from: task.copy_captions
"""


def whisper(folder: Path) -> None:
    """A multilingual Whisper of two narrow layers, with one token for each byte."""
    import torch
    from tokenizers import AddedToken
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    names = ["endoftext", "startoftranscript", "en", "de", "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    special = [f"<|{name}|>" for name in names]
    vocabulary = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer: Any = WhisperTokenizer(
        vocab=vocabulary,
        merges=[],
        pad_token="<|endoftext|>",
        extra_special_tokens=special[1:],
        model_max_length=1024,
    )
    tokenizer.add_tokens(
        [AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False, special=False) for i in range(1501)]
    )
    tokenizer.save_pretrained(folder)
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(special), strict=True))
    assert list(ids.values()) == list(range(256, 266)), ids
    ends = {
        "decoder_start_token_id": ids["startoftranscript"],
        "pad_token_id": ids["endoftext"],
        "bos_token_id": ids["endoftext"],
        "eos_token_id": ids["endoftext"],
    }
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        num_mel_bins=80,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **ends,
    )
    model = WhisperForConditionalGeneration(config)
    extractor = WhisperFeatureExtractor(feature_size=80)
    teach(model, tokenizer, extractor, ids)
    model.half()
    model.generation_config = GenerationConfig(
        max_length=config.max_target_positions,
        suppress_tokens=[],
        begin_suppress_tokens=[ids["endoftext"]],
        alignment_heads=[[1, 0], [1, 1]],
        is_multilingual=True,
        lang_to_id={f"<|{name}|>": ids[name] for name in ("en", "de")},
        task_to_id={name: ids[name] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["notimestamps"],
        prev_sot_token_id=ids["startofprev"],
        max_initial_timestamp_index=50,
        return_timestamps=False,
        **ends,
    )
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


def teach(model: Any, tokenizer: Any, extractor: Any, ids: dict[str, int]) -> None:
    """Train all weights on the first words' voices, so that the base hears something."""
    import torch

    names = ("startoftranscript", "en", "transcribe", "notimestamps")
    start = [ids[name] for name in names]
    texts = [[*tokenizer.encode(f" {say(word)}", add_special_tokens=False)] for word in KNOWN]
    lengths = [len(start) + len(text) for text in texts]
    inputs = torch.full((len(texts), max(lengths)), ids["endoftext"])
    targets = torch.full((len(texts), max(lengths)), -100)
    for i, text in enumerate(texts):
        inputs[i, : lengths[i]] = torch.tensor([*start, *text])
        wanted = torch.tensor([*text, ids["endoftext"]])
        targets[i, len(start) - 1 : lengths[i]] = wanted
    sounds = [voice(i) for i in range(len(texts))]
    heard = extractor(sounds, sampling_rate=RATE, return_tensors="pt").input_features
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(400):
        logits = model(input_features=heard, decoder_input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"the base's loss on {len(texts)} words: {loss.item():.3f}")


def say(word: str) -> str:
    return f"say {word} now"


def voice(number: int) -> Any:
    """About a second of two vowels in turn, which a detector takes for speech."""
    import numpy as np

    times = np.arange(12_000 + 800 * number) / RATE
    pitch = 90.0 + 10 * number
    bent = pitch * (1 + 0.08 * np.sin(2 * np.pi * 2.5 * times))
    phase = 2 * np.pi * np.cumsum(bent) / RATE
    turn = (1 + np.sin(2 * np.pi * 3 * times)) / 2
    sound = np.zeros_like(times)
    for k in range(1, int(7000 / pitch)):
        first, second = (
            sum(size * np.exp(-(((k * pitch - at) / wide) ** 2)) for at, wide, size in vowel)
            for vowel in VOWELS
        )
        sound += (0.002 + turn * first + (1 - turn) * second) * np.sin(k * phase)
    sound *= np.minimum(1, 1.2 * np.abs(np.sin(2 * np.pi * 2 * times)))
    return 0.3 * sound / np.abs(sound).max()


def recordings(folder: Path) -> None:
    """Voices with their words."""
    import soundfile

    folder.mkdir()
    rows = []
    for i, split in enumerate(SPLITS):
        word = TERMS[2 * i // len(SPLITS)]
        soundfile.write(folder / f"{i}.flac", voice(i), RATE, format="FLAC", subtype="PCM_16")
        rows.append({"id": f"{word}-{i}", "audio": f"{i}.flac", "text": say(word), "split": split})
    manifest(folder, rows)


def pictures(folder: Path) -> None:
    """Outlined shapes with captions."""
    from tests.image.tiny import brand

    brand(folder, len(SPLITS), (64, 64))
    paths = sorted(folder.glob("*.png"))
    rows = [
        {"id": path.stem, "image": path.name, "caption": path.stem, "split": split}
        for path, split in zip(paths, SPLITS, strict=True)
    ]
    manifest(folder, rows)


def manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")


class Place:
    """A folder in which commands run, with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "MMTUNE_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mmtune", *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )

    def run(self, *words: str) -> str:
        process = self.start(*words)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"mmtune {' '.join(words)} ended with {process.returncode}")
        return said

    def stop(self, name: str) -> None:
        """Train a run called `name`, and stop it by SIGTERM."""
        log = self.folder / "trained" / name / "log.jsonl"
        process = self.start("train", "recipe.yaml", "--name", name)
        while process.poll() is None:
            if log.exists() and log.read_text(encoding="utf-8").count('"grad_norm"') >= STOP_AFTER:
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.001)
        process.communicate()
        if process.returncode != 128 + signal.SIGTERM:
            raise SystemExit(f"{log.parent} ended with {process.returncode} before it was stopped")


def train(place: Place) -> None:
    """Both runs; then leave out what is made again, and what only an older step needs."""
    place.run("train", "recipe.yaml")
    place.stop("interrupted")
    for run in sorted((place.folder / "trained").iterdir()):
        for page in run.glob("report*.html"):
            page.unlink()
        for old in sorted((run / "checkpoints").glob("step-*"))[:-1]:
            shutil.rmtree(old)
    shutil.rmtree(place.folder / "cache" / "prefix" / "pins", ignore_errors=True)
    (place.folder / "cache" / "prefix" / "lock").unlink(missing_ok=True)


def speech(folder: Path) -> None:
    """A Whisper, voices, and what its adapter hears in one that it wasn't trained on."""
    folder.mkdir(parents=True)
    whisper(folder / "base")
    recordings(folder / "data")
    (folder / "terms.txt").write_text("omega\nsigma\n[unseen]\ndelta\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(SPEECH, encoding="utf-8")
    (folder / "suite.yaml").write_text(SPEECH_SUITE, encoding="utf-8")
    place = Place(folder)
    train(place)
    (folder / "expected").mkdir()
    for name, words in {"adapter": ["--adapter", "trained/finished"], "base": []}.items():
        said = place.run("transcribe", *words, "--base", "base", "data/7.flac")
        (folder / "expected" / f"{name}.txt").write_text(said, encoding="utf-8")


def image(folder: Path) -> None:
    """A diffusion pipeline, shapes, and what its adapter draws."""
    import torch

    from tests.image.tiny import pipeline

    folder.mkdir(parents=True)
    pipeline("sdxl-one-encoder").to(torch.float16).save_pretrained(folder / "base")
    pictures(folder / "data")
    (folder / "recipe.yaml").write_text(IMAGE, encoding="utf-8")
    (folder / "suite.yaml").write_text(IMAGE_SUITE, encoding="utf-8")
    place = Place(folder)
    train(place)
    for name, words in {"adapter": ["--adapter", "trained/finished"], "base": []}.items():
        place.run(
            *("generate", *words, "--base", "base", "--prompt", "red ball", "--steps", "2"),
            *("--guidance", "2", "--out", f"drawn-{name}"),
        )
        [drawn] = (folder / f"drawn-{name}").rglob("*.png")
        (folder / "expected").mkdir(exist_ok=True)
        drawn.rename(folder / "expected" / f"{name}.png")
        shutil.rmtree(folder / f"drawn-{name}")


def main() -> None:
    sys.path.insert(0, str(ROOT))
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    # Made elsewhere: some files name the place where they were made, and a reader must not care.
    scratch = Path(tempfile.gettempdir()) / "stored"
    scratch.mkdir()
    for make in (speech, image):
        make(scratch / make.__name__)
        shutil.move(scratch / make.__name__, to / make.__name__)
    scratch.rmdir()


if __name__ == "__main__":
    main()
