"""Parsers of what mmtune itself wrote, and of media."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.corpus import Files, lines, stored
from tests.fuzz.user_files import each

# What mmtune itself wrote


def run_seeds() -> list[Files]:
    found: list[Files] = []
    for modality in ("speech", "image"):
        here = ("trained", "finished")
        names = ["config.yaml", "comparison.json", "verdict.json", "log.jsonl", "answers.jsonl",
                 "adapter/card.json", "data.json", "suite.yaml"]  # fmt: skip
        found.append({n: stored(modality, *here, *n.split("/")) for n in names})
    key = {"review": "r", "run": "x", "adapter": "", "seed": 0, "sides": {"1": "A"},
           "rows": {"1": "a"}, "same": 0}  # fmt: skip
    answers = {"review": "r", "rater": "x", "answers": {"1": "A"}}
    found.append({"review_key.json": json.dumps(key).encode(),
                  "answers.json": json.dumps(answers).encode()})  # fmt: skip
    return found


def parse_run(folder: Path) -> None:
    from mmtune.adapters.card import read_card
    from mmtune.evaluation.answers import _read_answers
    from mmtune.evaluation.comparison import read_comparison
    from mmtune.evaluation.verdict import read_verdict
    from mmtune.pages.preference import read_review
    from mmtune.runs.recipes import load_run
    from mmtune.training.log import read_log

    def card() -> None:
        read_card(folder / "adapter")

    def comparison() -> None:
        read_comparison(folder).to_json()

    each(
        card,
        comparison,
        lambda: read_verdict(folder),
        lambda: load_run(folder),
        lambda: read_log(folder / "log.jsonl") if (folder / "log.jsonl").exists() else None,
        lambda: list(_read_answers(folder / "answers.jsonl")),
        lambda: read_review(folder, [folder / "answers.json"], folder / "review_key.json"),
        lambda: read_review(folder, [folder / "answers.json"] * 2),
        lambda: read_review(folder / "nothing", []),
    )


def page_seeds() -> list[Files]:
    seeds: list[Files] = [
        {k: v for k, v in files.items() if k != "answers.jsonl"} for files in run_seeds()[:2]
    ]
    heard = {"id": "1", "slice": "test", "reference": "some words", "base": "a", "adapter": "b",
             "row": {"id": "1", "audio": "a.wav", "text": "some words"}}  # fmt: skip
    old = {k: v for k, v in heard.items() if k != "row"}
    whole = {"comparison.json": stored("speech", "trained", "finished", "comparison.json")}
    seeds.append(whole | {"predictions.jsonl": lines(heard, old, {**heard, "base": None})})
    seeds.append({**whole, "predictions.jsonl": lines(old), "review/review_key.json": b"{}"})
    return seeds


def parse_page(folder: Path) -> None:
    from mmtune.pages.review import _candidates, write_review
    from mmtune.runs.pipeline import report

    each(
        lambda: report([folder]),
        lambda: _candidates(folder),
        lambda: write_review(folder, None, items=2, seed=0),
        lambda: write_review(folder, None, items=2, seed=1),
    )


def tensor_seeds() -> list[Files]:
    return [
        {
            "adapter/adapter_model.safetensors": corpus.tensors(layer),
            "validated/step-0000003.safetensors": corpus.tensors("decoder.layers.0"),
            "cache/kk/" + "k" * 64 + ".safetensors": corpus.tensors("x"),
        }
        for layer in ("encoder.layers.0", "encoder.conv1", "decoder.layers.1")
    ]


def parse_tensors(folder: Path) -> None:
    from mmtune.adapters.card import weights_hash
    from mmtune.prefix.cache import PrefixCache
    from mmtune.speech.whisper.decoder_lora import adapted_from
    from mmtune.training.kept_weights import read_snapshots

    cache = PrefixCache(folder / "cache")
    for path in folder.rglob("k*.safetensors"):
        os.utime(path, (1e9, 1e9))  # not used for long: reading it says that it was
    each(
        lambda: adapted_from(folder / "adapter"),
        lambda: weights_hash(folder / "adapter"),
        lambda: read_snapshots(folder),
        lambda: cache.get("k" * 64),
        cache.ls,
        cache.verify,
    )


def checkpoint_seeds() -> list[Files]:
    names = ("sha256.json", "state.json", "torch.pt", "weights.safetensors", "best.safetensors")
    here = ("speech", "trained", "interrupted", "checkpoints")
    step = sorted(p.name for p in corpus.STORED.joinpath(*here).iterdir())[-1]
    return [{f"step-0000001/{n}": stored(*here, step, n) for n in names}]


def parse_checkpoint(folder: Path) -> None:
    from mmtune.training.checkpoint import newest

    newest(folder)


# Media


def sound_seeds() -> list[Files]:
    return [{name: data} for name, data in corpus.sounds().items()]


def parse_sound(folder: Path) -> None:
    from mmtune.speech.sound.read import (
        content_of,
        probe,
        read_audio,
        read_channels,
        read_row,
        row_seconds,
    )
    from mmtune.speech.speech_row import SpeechRow

    each(lambda: probe(folder), lambda: probe(folder / "nothing"))
    for path in sorted(folder.iterdir()):
        row = SpeechRow(id="a", audio=str(path), text="x", start=0.05, end=0.1, channel=0)
        whole = row.model_copy(update={"start": 0.0, "end": None, "channel": None})
        each(
            lambda: read_audio(path),  # noqa: B023
            lambda: read_audio(path, channel=probe(path).channels),  # noqa: B023
            lambda: read_audio(path, start=-1.0),  # noqa: B023
            lambda: read_audio(path, start=9e3),  # noqa: B023
            lambda: read_audio(path, start=0.05, end=0.06, max_seconds=0.001),  # noqa: B023
            lambda: read_channels(path, end=0.1),  # noqa: B023
            lambda: read_audio(path, channel="mix", max_seconds=0.2),  # noqa: B023
            lambda: read_row(row),  # noqa: B023
            lambda: row_seconds(row),  # noqa: B023
            lambda: content_of(row),  # noqa: B023
            lambda: content_of(whole),  # noqa: B023
        )


def picture_seeds() -> list[Files]:
    drawn = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
        b'<rect width="5" height="5"/></svg>'
    )
    return [{name: data} for name, data in corpus.pictures().items()] + [{"a.svg": drawn}]


def parse_picture(folder: Path) -> None:
    from mmtune.image.pictures.pixels import (
        _formats,
        decoded,
        open_image,
        open_mask,
        stored_size,
        upright_size,
    )

    _formats.cache_clear()  # it was called before coverage is measured

    def small(path: Path) -> None:
        with decoded(path, reduced=True) as picture:
            picture.colour_fault()
            if picture.image.width * picture.image.height < 4_000_000:  # larger ones take long
                picture.visible_range()
            picture.thumbnail(16)

    each(lambda: stored_size(folder), lambda: stored_size(folder / "nothing"))
    for path in sorted(folder.iterdir()):
        each(
            lambda: stored_size(path),  # noqa: B023
            lambda: upright_size(path),  # noqa: B023
            lambda: open_image(path),  # noqa: B023
            lambda: open_mask(path),  # noqa: B023
            lambda: small(path),  # noqa: B023
        )
