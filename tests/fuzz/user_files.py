"""Parsers of what users write: manifests, tables, subtitles, folders of images."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz import corpus
from tests.fuzz.corpus import Files, lines, table


def each(*reads: Callable[[], object]) -> None:
    """Call all; what one refuses must come with a cure, and doesn't keep the others from it."""
    from mmtune.errors import MmtuneError

    for read in reads:
        try:
            read()
        except MmtuneError as error:
            if not error.cure:
                raise AssertionError(f"an error without a cure: {error}") from None


def at_border(function: Callable[..., object], *values: Any, **named: Any) -> None:
    """Call a function that reads names of the command line, whose errors the border translates."""
    from mmtune.system.storage_errors import translated

    with translated():
        function(*values, **named)


def readers() -> tuple[Any, Any]:
    from mmtune.runs.modalities import find_modality

    return find_modality("speech"), find_modality("image")


# Manifests and folders


def manifest_seeds() -> list[Files]:
    speech = [
        {"id": "a", "audio": "a.wav", "text": "some words", "split": "train", "start": 0.0,
         "end": 0.2, "speaker": "x", "terms": ["w"], "group": {"accent": "b"}, "weight": 1.5},
        {"audio": "b/c.wav", "text": "more", "channel": "mix", "language": "en",
         "segments": [{"start": 0.0, "end": 0.1, "text": "more"}]},
    ]  # fmt: skip
    image = [
        {"id": "a", "image": "a.png", "caption": "red ball", "split": "test", "mask": "m.png"},
        {"image": "b.png", "caption": "box", "subject": "s", "group": {}},
    ]
    return [
        {"manifest.jsonl": lines(*speech)},
        {"manifest.jsonl": lines(*image)},
        {"train.jsonl": lines(speech[0]), "test.jsonl": lines(speech[1])},
        {"a.wav": b"x", "a.txt": b"words of a\n", "b.flac": b"x", "sub/c.wav": b"x"},
        {"rows.ndjson": lines({"file": "a", "transcription": "x"}, {"audio": 3})},
        {"notes.txt": b"nothing\n"},
    ]


def parse_manifest(folder: Path) -> None:
    from mmtune.data.manifest import keys_of, lines_of, read_rows, write_manifest

    found: list[Any] = []
    speech, image = readers()
    for reader in (speech, image):
        each(lambda: found.extend(read_rows(folder, reader)[0]))  # noqa: B023
    for path in sorted(folder.glob("*.*l*")):
        each(
            lambda: [keys_of(line) for _, line in lines_of(path, speech.row)],  # noqa: B023
            lambda: read_rows(path, speech),  # noqa: B023
        )
    inside = [row.model_copy(update={row.media: str(folder / "x")}) for row in found[:1]]
    write_manifest(folder / "written.jsonl", [*found, *inside, {"id": "raw"}])


# Speech importers

OPTIONS = "options.json"  # of an import, which the user gives on the command line
ROWS = (("audio", "text", "speaker", "start", "end", "language", "split", "terms", "channel"),
        ("a.wav", "some words", "x", "0:00.5", "1.5", "en-GB", "dev", "some;words", "0"),
        ("b.mp3", 'more "words"', "y", "", "", "sv", "train", "", "mix"))  # fmt: skip


def table_seeds() -> list[Files]:
    nemo = {"audio_filepath": "a.wav", "duration": 1.5, "offset": 0.5, "text": "some words"}
    voice = (("client_id", "path", "sentence", "gender", "accents", "locale"),
             ("c", "a.mp3", '"some" words', "male", "x", "en"))  # fmt: skip
    nested = {"audio": {"path": "a.wav", "bytes": None}, "text": "w", "terms": ["a", "b"]}
    clip = corpus.sound("WAV", "PCM_16")  # a quarter of a second
    cut = [(f"{i}.wav", "words", f"{i}.0", f"{i}.2") for i in (1, 2, 3)]  # times of the original
    spans = (("file", "label", "begin_time", "end_time"), *cut)
    clips = {f"clips/{i}.wav": clip for i in (1, 2, 3)}
    named = (("Audio", "TEXT", "text", "speaker", "channel"),
             ("C:\\calls\\one\\a.wav", "some words", "more", "agent", ""),
             ("one\\b", "other words", "", "customer", "1"),
             ("../c.wav", "words", "", "n/a", "x"))  # fmt: skip
    speakers = {"speakers": "agent=0, customer=1", "audio_dir": "sound", "encoding": "cp1252"}
    places = {"sound/one/a.wav": clip, "sound/b.mp3": b"x", "one/b.wav": clip}
    return [
        {"rows.csv": table(",", *spans), **clips},
        {
            "rows.csv": table(
                ",", ("audio", "text", "start", "end"), *cut[:2], ("x.wav", "w", "", "")
            ),
            **clips,
        },
        {
            "rows.csv": b'audio,text\na.wav,"Yes\nb.wav,No"\nc.wav,"Listen to\n'
            b'd.wav",e.wav\nf.wav,it goes\non"\n'
            b'g.wav,"one "two"\nh.wav,x,y\nk.wav\nl.wav,"open\n'
        },
        {
            "rows.csv": b'audio,text,speaker\na.wav,"of\n\ntwo, lines",x\n'
            b'b.wav,"c" d,y\nc.wav,"e\nd.wav,f,z\n'
        },
        {"rows.tsv": b'audio\ttext\na.wav\t"Yes\nb.wav\tNo"\n', "rows.csv": b'"audio\n'},
        {"rows.csv": table(",", *named), **places, OPTIONS: json.dumps(speakers).encode()},
        {"rows.csv": table(",", *named[:3]), **places, OPTIONS: b'{"speakers": "agent=0,agent=1"}'},
        {"rows.csv": table(",", *named[:3]), **places, OPTIONS: b'{"speakers": {"a": 0, "A": 1}}'},
        {"rows.csv": table(",", *named[:3]), **places, OPTIONS: b'{"speakers": " "}'},
        {
            "rows.csv": table(",", *named[:3]),
            **places,
            OPTIONS: b'{"speakers": {"agent": 0, "b": 1}, "encoding": "hex"}',
        },
        {
            "rows.jsonl": lines(
                *(
                    {"audio": {"path": "x", "bytes": None}, "text": "w", "start": i}
                    for i in (0, "x", None)
                )
            ),
            **clips,
        },
        {"train.tsv": table("\t", *voice), "dev.tsv": b"", "test.tsv": table("\t", *ROWS)},
        {"rows.csv": table(",", *ROWS)},
        {"train.tsv": table("\t", *ROWS), "clips/a.wav": b"x"},
        {"rows.csv": table(";", *ROWS)},
        {"rows.jsonl": lines(nemo, nested)},
        {"validated.tsv": table("\t", *voice)},
        {"train.tsv": table("\t", *voice), "clips/a.mp3": b"x"},
        {"train/metadata.csv": table(",", ("file_name", "transcription"), ("a.wav", "words"))},
        {"metadata.jsonl": lines({"file_name": "a.wav", "text": "words", "id": 3})},
        {"rows.json": lines(nemo), "wavs/a.wav": b"x"},
        {"rows.json": json.dumps([nemo, nested | {"text": ["some", "words"]}], indent=1).encode()},
        {"rows.csv": table(",", ("path", "label", "name", "key"), ("a.wav", "words", "n", "k"))},
    ]


def parse_imported(folder: Path) -> None:
    from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
    from mmtune.speech.corpus.importers import LAYOUTS, import_speech, read_pieces, recognise
    from mmtune.speech.corpus.importers.piece import ImportOptions

    if (folder / OPTIONS).is_file():
        to = Path(os.environ.get("TMPDIR", folder.parent)) / "to"  # other folders may not be opened
        each(lambda: at_border(import_speech, folder, to, settings=given(folder), dry=True))
    name = recognise(folder)
    for path in sorted(folder.iterdir()):
        if path.is_symlink():  # a user may name a link; in a folder it isn't followed
            continue
        recognise(path)
        if path.suffix in (".tsv", ".csv", ".jsonl", ".json") and path.is_file():
            list(LAYOUTS["table"].pieces(path, ImportOptions()))
            if path.suffix == ".tsv":
                list(LAYOUTS["commonvoice"].pieces(path, ImportOptions()))
        elif path.suffix in (".vtt", ".srt") and path.is_file():
            list(LAYOUTS["subtitles"].pieces(path, ImportOptions(language="sv")))
        elif path.suffix == ".parquet" and path.is_file():
            each(lambda: list(LAYOUTS["huggingface"].pieces(path, ImportOptions())))  # noqa: B023
    if name is None:
        return
    options = ImportOptions(language="en")
    linked = any(p.is_symlink() for p in folder.rglob("*") if p.suffix in SPEECH_SUFFIXES)
    each(
        lambda: list(read_pieces(folder, options, name)),
        lambda: list(read_pieces(folder, ImportOptions(), name)),
    )
    if not linked:  # such a folder is refused before its layout's reader begins
        list(LAYOUTS[name].pieces(folder, options))


def given(folder: Path) -> dict[str, Any]:
    """The options of an input, or those that are left of them."""
    try:
        read = json.loads((folder / OPTIONS).read_bytes())
    except (ValueError, RecursionError):
        return {"audio_dir": str(folder / "sound")}
    settings = read if isinstance(read, dict) else {"speakers": read}
    if isinstance(name := settings.get("audio_dir"), str) and "\0" not in name:
        settings["audio_dir"] = str(folder / Path(name).name)  # other folders are allowed to it
    return settings


def kaldi_seeds() -> list[Files]:
    whole = {
        "wav.scp": b"r1 a.wav\nr2 sox b.wav -t wav - |\nr3 c.ark:12\nr4 /x/d.wav\n",
        "text": b"u1 some words\nu2 more\nu3\nr1 whole\n",
        "segments": b"u1 r1 0.0 1.5\nu2 r1 1.5 -1\nu3 r2 0 1\nu4 r9 0 1\n",
        "utt2spk": b"u1 s1\nu2 s2\n", "spk2gender": b"s1 m\ns2 f\n", "utt2lang": b"u1 en\n",
        "reco2file_and_channel": b"r1 a A\nr2 b B\n",
    }  # fmt: skip
    plain = {name: whole[name] for name in ("wav.scp", "text")}
    tabs = {"data/train/" + k: v.replace(b" ", b"\t", 1) for k, v in plain.items()}
    return [whole, plain, {"train/" + k: v for k, v in whole.items()}, tabs]


VTT = """WEBVTT

NOTE made by code

STYLE
::cue {color: red}

1
00:00:00.000 --> 00:00:01.500 align:start
<v Anna>Some <i>words</i> of one.

00:00:01.600 --> 00:00:03.000
<v Ben>More &amp; more.

00:02:03.000 --> 00:02:04.000
[music]
"""
SRT = """1
00:00:00,000 --> 00:00:01,500
Some words.

2
00:00:01,600 --> 00:00:20,000
- More of them,
- and more!

3
00:00:19,000 --> 00:00:18,000
{\\an8}backwards
"""


CALL = """1
00:00:00,010 --> 00:00:00,100
agent: good morning

2
00:00:00,110 --> 00:00:00,200
customer: hello

3
00:00:00,210 --> 00:00:00,240
nobody's words
"""
CALL_VTT = """WEBVTT
Language: en
Channel 0: agent
Channel 1: customer

00:00.010 --> 00:00.100
<v agent>good morning

00:00.110 --> 00:00.200
<v customer>hello
"""


# Captions that grow, and captions that scroll.
GROWING = ["<v Ann>one two three", "<v Ann>one two three four</v>", "<v Ann>one two three</v> four "
           "five", "<v Ann>one two three <v Ben>four five six"]  # fmt: skip
SCROLLING = ["<v Ann>one two\nthree", "<v Ann>three\nfour", "four\n<v Ben>- five", "- five\n- six"]


def moving(texts: Sequence[str]) -> bytes:
    blocks = [f"00:0{i}.000 --> 00:0{i + 1}.000\n{text}\n" for i, text in enumerate(texts)]
    return ("WEBVTT\n\n" + "\n".join(blocks)).encode()


def subtitle_seeds() -> list[Files]:
    call = corpus.sound("WAV", "PCM_16", 2)
    said = {
        "text": "good morning hello", "language": "en", "channels": ["agent", "customer"],
        "segments": [
            {"start": 0.01, "end": 0.1, "text": "good morning", "channel": "agent"},
            {"start": 0.11, "end": 0.2, "text": "hello", "channel": "customer"},
        ],
    }  # fmt: skip
    return [
        {"a.wav": b"x", "a.vtt": VTT.encode()},
        {"a.wav": b"x", "a.srt": SRT.encode()},
        {"a.wav": b"x", "a.en.vtt": VTT.encode(), "a.sv.srt": SRT.encode(), "b.vtt": b"WEBVTT\n"},
        {"a.wav": call, "a.srt": CALL.encode()},
        {"a.wav": call, "a.vtt": CALL_VTT.encode()},
        {"a.wav": call, "a.json": json.dumps(said).encode()},
        {"a.wav": call, "a.json": json.dumps(said | {"text": "other words"}).encode()},
        {"a.wav": b"x", "a.json": b"{}", "c.srt": b""},
        {"a.wav": b"x", "a.wav.vtt": moving(GROWING), "a.vtt": moving(SCROLLING)},
        {"a.wav": b"x", "a.vtt": moving(SCROLLING)},
        {"a.wav": b"x", "a.sv.vtt": VTT.encode(), "a.de.vtt": VTT.encode(), "b.wav": b"x"},
        {"a.wav": b"x", "a.sv.vtt": VTT.encode()},
        {"a.wav": b"x", "a.vtt": VTT.encode(), "a.srt": SRT.encode(), "a.ass": b"x", "c.sub": b"x"},
    ]


def transcript_seeds() -> list[Files]:
    return [
        {"a.wav": corpus.sound("WAV", "PCM_16"), "a.txt": b"some words\n"},
        {"a.wav": b"x", "b.wav": b"x", "b.txt": "\ufeffmore w\u00f6rds".encode()},
        {"a.wav": b"x", "a.txt": b"", "sub/b.wav": b"x", "sub/b.txt": b"\xff\xfe\x00"},
        {"large.wav": b"x", "large.txt": b"words\n"},
        {"a.txt": " ".join(f"word{i}" for i in range(90)).encode(), "times.txt": b"0 3 0.2 9"},
        {"a.txt": b"one two - three four five six seven " * 9, "times.txt": b"0.4 0.9 40 7"},
    ]


def parse_alignment(folder: Path) -> None:
    """Where words of a transcript lie among heard words; both come from the mutated files."""
    from mmtune.speech.corpus.importers.alignment import place, stretches
    from mmtune.speech.whisper.word_times import Word

    for path in sorted(p for p in folder.rglob("*.txt") if not p.is_symlink()):
        given = path.read_bytes().decode("utf-8", "replace").split()[:120]
        # What was heard: most words, some others, with pauses that the text decides.
        heard, at = [], 0.0
        for i, word in enumerate(given):
            spoken = ["x"] * (hash_of(word) % 5) if hash_of(word) % 7 == 0 else [word]
            for each in spoken if hash_of(word) % 11 else []:
                heard.append(Word(at, at + 0.3, f" {each}", 1.0))
                at += 0.3 + (hash_of(word) % 4) * 0.2
            at += 8.0 if i % 40 == 39 else 0.0
        for longest in (30.0, 2.0):
            stretches(place(given, heard), at + 1, longest)
    if (large := folder / "large.txt").is_file() and not large.is_symlink():
        os.truncate(large, 2**22)  # takes no room on the disk
    parse_imported(folder)


def hash_of(word: str) -> int:
    """A number that is the same in each process."""
    return zlib.crc32(word.encode("utf-8", "replace"))


def parquet_seeds() -> list[Files]:
    data = corpus.parquet()
    typed = corpus.typed_parquet()
    some = [{"train-00000.parquet": data}, {"metadata.parquet": data}] if data else []
    return [*some, {"train-00000.parquet": typed}] if typed else some


# Folders of images


def folder_seeds() -> list[Files]:
    rows = ({"file_name": "a.png", "text": "red ball", "weight": 2, "mask": "m.png"},
            {"file_name": "sub/b.png", "prompt": "box", "split": "test"})  # fmt: skip
    return [
        {"a.png": b"x", "a.txt": b"red ball\n", "a.mask.png": b"x", "IMG_01.jpg": b"x"},
        {"10_acme icon/a.png": b"x", "2_ball/b_01.png": b"x", "01_x/c.heic": b"x"},
        {"metadata.jsonl": lines(*rows), "a.png": b"x", "train/sub/b.png": b"x"},
        {"train/metadata.csv": table(",", ("file_name", "caption", "weight"),
                                     ("a.png", "red", "2"), ("b.png", "", "x")),
         "train/a.png": b"x", "a.caption": b"c"},
        {"a.png": b"x", "a.json": json.dumps({"caption": "red ball", "tags": ["x", "y"]}).encode(),
         "b.jpg": b"x", "b.jpg.TXT": "box".encode("utf-16"), "c.webp": b"x", "c.txt": b" \n",
         "c.Caption": "\u0431\u043e\u043a\u0441".encode("cp1251")},
        {"a.png": b"x", "a.json": b'[{"tags": "one, two"}]', "b.png": b"x", "b.json": b'["x"]',
         "A\u030a.png": b"x", "\u00c5.txt": b"ring\n", "c.png": b"x", "d.png": b"x",
         "c.txt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
         "d.json": json.dumps({"captions": ["one", "two"], "tag_string": "x y"}).encode()},
        {"metadata.csv": "file_name\ttext\na.png\tred ball\n".encode("utf-16"), "a.png": b"x"},
        {"metadata.jsonl": b'{"file_name": "a.png", "text": ["x", "y"]}\n[1]\n"\n', "a.png": b"x",
         "reg/a.png": b"x", "b-masklabel.png": b"x", "b.png": b"x", "sample/c.png": b"x",
         "latents/a.npz": b"x", ".thumbs/a.png": b"x", "page.pdf": b"x", "logo.svg": b"<svg/>"},
        {f"Summer {i:02}.png": b"x" for i in range(12)},
    ]  # fmt: skip


def parse_folder(folder: Path) -> None:
    from mmtune.image.corpus.folders import scan
    from mmtune.image.corpus.propose_captions import proposal_from_name

    for row in scan(folder):
        if isinstance(row, dict):
            proposal_from_name(str(row["image"]))
