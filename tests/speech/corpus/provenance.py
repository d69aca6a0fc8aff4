"""Prove that the text and the sound of each imported row come from one source.

    python -m tests.speech.corpus.provenance [--inputs N] [--seed S]

Each tenth of a second of a recording encodes the recording's number and its own place in the
samples, and each transcript names the number and the places. Tables and subtitles are written in
many dialects, damaged, and imported. Exit code: 0 if no row has the words or the sound of another,
no row is lost without a reason, and enough rows were imported to tell.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mmtune.errors import DataError
from mmtune.speech.corpus.importers import import_speech

RATE = 16_000
FRAME = RATE // 10  # samples that hold one code
BITS = 16
PLACES = 12  # frames of a recording
LEAST = 0.5  # share of the rows that must be imported
MARK = re.compile(r"r(\d+) a(\d+) b(\d+)")
WORDS = ("yes", "no, thanks", 'he said "no"', "5\" pipe", '"quoted"', "für Ärzte", "a;b", "a|b",
         "line\nbreak", "tab\there", "'single'", "100 %", "")  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252")


@cache
def sound(number: int) -> bytes:
    """A WAV file whose samples say which recording it is, and where in it they are."""
    codes = [number * PLACES + place for place in range(PLACES)]
    bits = np.array([[code >> bit & 1 for bit in range(BITS)] for code in codes])
    samples = np.repeat(bits.reshape(-1) - 0.5, FRAME // BITS)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def heard(path: Path) -> list[tuple[int, int]]:
    """Read the recording's number and the place of each whole frame."""
    samples, rate = soundfile.read(path)
    assert rate == RATE
    found = []
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        bits = samples[start : start + FRAME].reshape(BITS, -1).mean(axis=1) > 0
        found.append(divmod(sum(1 << bit for bit in range(BITS) if bits[bit]), PLACES))
    return found


@dataclass
class Case:
    """A source to import.

    Attributes:
        source: the file or folder.
        settings: of the import.
        texts: the words that belong to each recording's number.
        lines: records of the tables.
    """

    source: Path
    settings: dict[str, Any] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)
    lines: int = 0


def put(path: Path, number: int) -> None:
    """Write a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound(number))


def names_of(rng: random.Random) -> list[str]:
    """Names of recordings: siblings that continue one another, and equal names in folders."""
    stem = rng.choice(["call", "a", "2024-01-05", "r1"])
    names = [stem, f"{stem}.2", f"{stem}1", f"{stem} (copy)", f"{stem}.de", f"{stem}_b"]
    names += [f"in/{stem}", f"out/{stem}", f"in/{stem}.2"]
    return rng.sample(names, rng.randint(2, 5))


def as_written(name: str, rng: random.Random) -> str:
    """A path as a table's author may have written it."""
    path = f"{name}.wav"
    return rng.choice([path, path, path, f"./{path}", name, path.replace("/", "\\"),
                       f".\\{path}".replace("/", "\\"), f"C:\\calls\\{path}".replace("/", "\\"),
                       f"/data/export/{path}", path.upper(), f"gone/{path}"])  # fmt: skip


def table(folder: Path, rng: random.Random) -> Case:
    """Write a table with its recordings."""
    place = rng.choice(["", "", "clips/", "audio/", "elsewhere/"])
    case = Case(folder / "set/list.csv")
    rows: list[dict[str, str]] = []
    spans = rng.random() < 0.4
    for number, name in enumerate(names_of(rng)):
        put(folder / "set" / f"{place}{name}.wav", number)
        for _ in range(rng.choice([1, 1, 2]) if spans else 1):
            begin = rng.randrange(PLACES - 2) if spans else 0
            end = rng.randint(begin + 1, PLACES) if spans else PLACES
            said = f"{rng.choice(WORDS)} r{number} a{begin} b{end} {rng.choice(WORDS)}"
            case.texts.setdefault(number, []).append(said)
            row = {"path": as_written(name, rng), "text": said, "speaker": f"s{number}"}
            if spans:
                comma = "," if rng.random() < 0.3 else "."
                row |= {"start": f"{begin / 10}".replace(".", comma), "end": f"{end / 10}"}
            rows.append(row)
    rows += rng.sample(rows, rng.choice([0, 0, 1]))
    if place == "elsewhere/":
        case.settings["audio_dir"] = str(folder / "set/elsewhere")
    rng.shuffle(rows)
    case.lines = len(rows)
    if rng.random() < 0.2:
        case.source = folder / "set/list.jsonl"
        case.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        _write_table(case, rows, rng)
    return case


def _write_table(case: Case, rows: list[dict[str, str]], rng: random.Random) -> None:
    separator = rng.choice(",;\t|")
    if separator == "\t" and rng.random() < 0.7:
        case.source = case.source.with_suffix(".tsv")
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE])
    columns = rng.sample(list(rows[0]), len(rows[0]))
    end = rng.choice(["\n", "\r\n"])
    lines = []
    damaged = rng.random() < 0.4
    table = [columns, *([row[name] for name in columns] for row in rows)]
    if damaged and rng.random() < 0.2:
        rng.choice(table[1:]).pop()
        case.lines = -1  # a cell of it may have two lines
        damaged = False
    for cells in table:
        if quoting == csv.QUOTE_NONE:  # as programs write that don't know of quoting
            plain = [" ".join(re.split(rf"[\n{re.escape(separator)}]", cell)) for cell in cells]
            lines.append(separator.join(plain))
            continue
        out = io.StringIO()
        # Of its line end the writer quotes what is in cells.
        csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\r\n").writerow(cells)
        lines.append(out.getvalue().removesuffix("\r\n"))
    if damaged:
        _damage(lines, separator, rng)
    encoding = rng.choice(ENCODINGS) if rng.random() < 0.5 else "utf-8"
    text = end.join(lines) + rng.choice(["", end, end + end])
    if encoding == "cp1252" and rng.random() < 0.7:
        case.settings["encoding"] = "cp1252"
    case.source.write_bytes(text.encode(encoding, "replace"))
    if damaged:
        case.lines = -1  # damage may break a row into two


def _damage(lines: list[str], separator: str, rng: random.Random) -> None:
    at = rng.randrange(1, len(lines))
    what = rng.randrange(5)
    if what == 0:  # a quotation mark without its partner
        place = rng.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:place] + '"' + lines[at][place:]
    elif what == 1:
        lines[at] += separator + "more"
    elif what == 2:
        lines.insert(at, "")
    elif what == 3:
        lines[at] = lines[at].replace('"', "", 1)
    else:
        lines.insert(at, rng.choice(["# a remark", separator, '"', "total: 3"]))


def subtitles(folder: Path, rng: random.Random) -> Case:
    """Write recordings with subtitles, some of them without, of other names and languages."""
    case = Case(folder / "set", {"language": "en"} if rng.random() < 0.3 else {})
    # call.de.srt may belong to call.wav or to call.de.wav: nobody can tell.
    names = [name for name in names_of(rng) if not name.endswith(".de")]
    for number, name in enumerate(names):
        put(folder / "set" / f"{name}.wav", number)
        for mark in rng.choice([[""], [""], [""], ["", ".de"], [".en"], [".sdh"], [".1"], []]):
            said = list(_cues(number, rng))
            case.texts.setdefault(number, []).extend(text for _, _, text in said)
            suffix = rng.choice([".srt", ".vtt"])
            path = folder / "set" / f"{name}{mark}{suffix}"
            path.write_bytes(_subtitle(said, suffix, rng).encode(rng.choice(ENCODINGS[:2])))
    return case


def _cues(number: int, rng: random.Random) -> Iterator[tuple[int, int, str]]:
    begin = rng.randrange(3)
    while begin < PLACES - 1:
        end = min(PLACES, begin + rng.randint(1, 4))
        yield begin, end, f"r{number} a{begin} b{end}"
        begin = end + rng.choice([0, 0, 1, 2])


def _subtitle(said: list[tuple[int, int, str]], suffix: str, rng: random.Random) -> str:
    point = "," if suffix == ".srt" else "."
    numbered = suffix == ".srt" and rng.random() < 0.8
    blocks = []
    for i, (begin, end, text) in enumerate(said, start=1):
        time = " --> ".join(f"00:00:{t // 10:02}{point}{t % 10}00" for t in (begin, end))
        words = rng.choice([text, text, f"<i>{text}</i>", text.replace(" ", "\n", 1)])
        blocks.append([*([str(i)] if numbered else []), time, words])
    if rng.random() < 0.2:
        rng.shuffle(blocks)
    if rng.random() < 0.2:
        blocks.insert(rng.randrange(len(blocks) + 1), ["NOTE a remark", "of two lines"])
    end_of_line = rng.choice(["\n", "\r\n"])
    head = [["WEBVTT"]] if suffix == ".vtt" else []
    body = (end_of_line * 2).join(end_of_line.join(block) for block in head + blocks)
    return body + end_of_line


def plain(text: str) -> str:
    """Words without quotation marks and separators, which damage may add or take away."""
    return " ".join(re.sub(r"[,;|\t]", " ", text.replace('"', "")).split())


def problems_of(case: Case, to: Path) -> tuple[list[str], Counter[str]]:
    """Import a case, and return what is wrong with its rows, and counts."""
    counts: Counter[str] = Counter(cases=1)
    problems = []
    try:
        result = import_speech(case.source, to, settings=case.settings)
    except DataError as error:
        counts["refused"] += 1
        return ([] if error.cure else [f"refused without a cure: {error}"]), counts
    rows = [json.loads(line) for line in (to / "manifest.jsonl").read_text().splitlines()]
    counts.update(rows=len(rows))
    if case.source.is_file() and case.lines >= 0:
        counts.update(table_rows=len(rows), table_lines=case.lines)
    for row in rows:
        marks = [tuple(map(int, found)) for found in MARK.findall(row["text"].replace('"', ""))]
        frames = heard(to / row["audio"])
        joined = case.source.is_dir()
        if not marks or (len(marks) > 1 and not joined) or len({mark[0] for mark in marks}) > 1:
            problems.append(f"the text of {row['id']} is not of one row: {row['text']!r}")
            continue
        number, begin, end = marks[0][0], marks[0][1], marks[-1][2]
        wanted = [(number, place) for place in range(begin, end)]
        if frames != wanted:
            problems.append(f"{row['text']!r} has the sound of {frames[:2]} … {frames[-1:]}")
        known = {plain(text) for text in case.texts.get(number, ())}
        if not joined and plain(row["text"]) not in known | {plain(_cp1252(t)) for t in known}:
            problems.append(f"{row['text']!r} is not as it was written: {known}")
        speaker = row.get("speaker", f"s{number}").replace('"', "")
        if not joined and speaker != f"s{number}":
            problems.append(f"{row['text']!r} has the speaker {row['speaker']}")
    for name, items in result.lines.items():
        if items["found"] != items["used"] + items["left_out"]:
            problems.append(f"{name}: {items}")
    if case.lines >= 0 and case.source.is_file():
        found = sum(items["found"] for items in result.lines.values())
        if found != case.lines:
            problems.append(f"{found} of {case.lines} lines were found")
    if case.source.is_dir() and result.files["used"] + result.files["left_out"] != sum(
        path.is_file() for path in case.source.rglob("*")
    ):
        problems.append(f"files: {result.files}")
    return problems, counts


def _cp1252(text: str) -> str:
    return text.encode("cp1252", "replace").decode("cp1252")


def run(number: int, folder: Path) -> tuple[list[str], Counter[str]]:
    """Make, import and judge the case of a number; the problems name it."""
    rng = random.Random(number)
    case = (subtitles if rng.random() < 0.35 else table)(folder, rng)
    problems, counts = problems_of(case, folder / "to")
    return [f"case {number}: {problem}" for problem in problems], counts


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; see the module's text."""
    parser = argparse.ArgumentParser(description="prove where imported rows come from")
    parser.add_argument("--inputs", type=int, default=20_000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    options = parser.parse_args(arguments)
    total: Counter[str] = Counter()
    problems: list[str] = []
    for number in range(options.seed, options.seed + options.inputs):
        with tempfile.TemporaryDirectory() as folder:
            found, counts = run(number, Path(folder))
        problems += found
        total += counts
    for problem in problems[:20]:
        print(problem)
    print(f"{dict(total)}, {len(problems)} problems")
    return 0 if not problems and total["table_rows"] >= LEAST * total["table_lines"] else 1


if __name__ == "__main__":
    sys.exit(main())
