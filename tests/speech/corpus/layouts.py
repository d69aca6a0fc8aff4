"""A small sample of each layout, and what an import of it holds."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mmtune.data.check import check
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.importers import import_speech
from mmtune.system.contents import SPLITS_FILE, VERSIONS
from tests.data.pieces import write_audio
from tests.speech.encoded import encode, tones

SPEECH = find_modality("speech")


def left_out(folder: Path) -> dict[str, str]:
    lines = (folder / "left_out.jsonl").read_text().splitlines()
    return {each["where"]: each["found"] + "; " + each["cure"] for each in map(json.loads, lines)}


def imported(source: Path, to: Path, **settings_: Any) -> dict[str, Any]:
    """Import by content, check, and give the rows by text."""
    layout = settings_.pop("layout", None)
    import_speech(source, to, layout, settings_)
    data = check(to, SPEECH)
    assert [f for f in data.findings if f.severity == "error"] == []
    for row in data.rows:
        with soundfile.SoundFile(row.path) as file:
            assert (file.samplerate, file.channels, file.format) == (16_000, 1, "FLAC")
    return {row.reference: row for row in data.rows}


def table(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=quoting)
        writer.writeheader()
        writer.writerows(rows)
    return path


# Each makes a sample with the texts "words 0" … and returns what to import.


def common_voice(folder: Path) -> Path:
    for i in range(6):
        write_audio(folder / f"clips/common_voice_{i}.mp3", seed=i, seconds=1.0)
    for i, name in enumerate(["train", "train", "train", "train", "dev", "test"]):
        row = {
            "client_id": f"c{i}",
            "path": f"common_voice_{i}.mp3",
            "sentence": f"words {i}",
            "up_votes": "2",
            "age": "twenties",
            "accents": "Scottish",
            "locale": "sv-SE",
        }
        path = folder / f"{name}.tsv"
        if path.exists():
            with path.open("a") as file:
                file.write("\t".join(row.values()) + "\n")
        else:
            table(path, [row], "\t")
    (folder / "validated.tsv").write_text("client_id\tpath\tsentence\nx\tmissing.mp3\tno\n")
    return folder


def plain_csv(folder: Path) -> Path:
    for i in range(4):
        write_audio(folder / f"audio/{i}.wav", seed=i, seconds=1.0)
    return table(
        folder / "list.csv",
        [{"Filename": f"{i}.wav", "Transcription": f"words {i}", "Speaker_ID": f"s{i}"}
         for i in range(4)],
        ";",
    )  # fmt: skip


def nemo(folder: Path) -> Path:
    write_audio(folder / "long.wav", seconds=60.0)
    lines = [
        {"audio_filepath": "long.wav", "offset": 10.0 * i, "duration": 2.5, "text": f"words {i}"}
        for i in range(4)
    ]
    path = folder / "manifest.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def audiofolder(folder: Path) -> Path:
    for split, numbers in {"train": (0, 1, 2), "test": (3,)}.items():
        for i in numbers:
            write_audio(folder / split / f"{i}.flac", seed=i, seconds=1.0)
        table(
            folder / split / "metadata.csv",
            [{"file_name": f"{i}.flac", "transcription": f"words {i}"} for i in numbers],
        )
    return folder


def hf_dataset(folder: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    audio = []
    for i in range(4):
        path = write_audio(folder / f"{i}.wav", seed=i, seconds=1.0)
        audio.append({"bytes": path.read_bytes(), "path": f"{i}.wav"})
    values = {"audio": audio, "sentence": [f"words {i}" for i in range(4)],
              "speaker_id": [7, 7, 8, 9]}  # fmt: skip
    # Without features first: with them, `datasets` would want torchcodec to make it.
    return datasets.Dataset.from_dict(values).cast_column("audio", datasets.Audio())


def saved(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    whole = hf_dataset(folder / "raw")
    parts = {"train": whole.select([0, 1, 2]), "test": whole.select([3])}
    datasets.DatasetDict(parts).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def parquet(folder: Path) -> Path:
    whole = hf_dataset(folder / "raw")
    (folder / "set/data").mkdir(parents=True)
    whole.select([0, 1, 2]).to_parquet(str(folder / "set/data/train-00000-of-00001.parquet"))
    whole.select([3]).to_parquet(str(folder / "set/data/test-00000-of-00001.parquet"))
    return folder / "set"


def kaldi(folder: Path) -> Path:
    write_audio(folder / "wavs/call one.wav", seconds=40.0)
    for split, numbers in {"train": (0, 1, 2), "test": (3,)}.items():
        data = folder / "data" / split
        data.mkdir(parents=True)
        (data / "wav.scp").write_text(
            f"call-{split} {folder}/wavs/call one.wav\npiped sph2pipe -f wav a.sph |\n"
        )
        (data / "segments").write_text(
            "".join(f"u{i} call-{split} {5 * i} {5 * i + 2.5}\n" for i in numbers)
            + "p1 piped 0 1\n"
        )
        (data / "text").write_text("".join(f"u{i} words {i}\n" for i in numbers) + "p1 piped\n")
        (data / "utt2spk").write_text("".join(f"u{i} s{i}\n" for i in numbers))
        (data / "spk2gender").write_text("".join(f"s{i} f\n" for i in numbers))
    return folder / "data"


VTT = """WEBVTT

NOTE made by hand

00:00:01.250 --> 00:00:03.000
<v Anna Berg>words
0</v>

00:05.000 --> 00:07.000 align:start
<v.loud Agent>words 1

00:08.500 --> 00:09.000
<v Anna Berg>[laughs]

00:00:10.000 --> 00:00:12.000
<v Anna Berg>words <i>2</i>

00:00:20.000 --> 00:00:22.000
<v Agent>words 3
"""


def vtt(folder: Path) -> Path:
    encode(folder / "talk.m4a", tones(30.0, 16_000), 16_000, "aac")
    (folder / "talk.en.vtt").write_text(VTT)
    return folder


def srt(folder: Path) -> Path:
    write_audio(folder / "talk.wav", seconds=30.0)
    (folder / "talk.srt").write_text(
        "".join(
            f"{i + 1}\r\n00:00:{5 * i:02},500 --> 00:00:{5 * i + 2:02},000\r\n"
            f"{{\\an8}}words\r\n{i}\r\n\r\n"
            for i in range(4)
        ),
        encoding="utf-8-sig",
    )
    return folder


def transcripts(folder: Path) -> Path:
    for i in range(4):
        write_audio(folder / f"call {i}.wav", seed=i, seconds=1.0)
        (folder / f"call {i}.txt").write_text(f"words\n{i}\n")
    return folder


SAMPLES = {
    "commonvoice": common_voice,
    "table": plain_csv,
    "nemo": nemo,
    "audiofolder": audiofolder,
    "saved": saved,
    "parquet": parquet,
    "kaldi": kaldi,
    "vtt": vtt,
    "srt": srt,
    "transcripts": transcripts,
}
CALLED = {"nemo": "table", "saved": "huggingface", "parquet": "huggingface", "vtt": "subtitles",
          "srt": "subtitles"}  # fmt: skip


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.endswith(SPLITS_FILE)  # `check` writes it, not an import
        and not path.parent.name.endswith(VERSIONS)  # it has keys of its own
    }
