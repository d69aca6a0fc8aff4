"""Import frames of videos as pictures: `mmtune import VIDEO --frames`.

The result is an imagefolder: pictures, and metadata.jsonl, which names the video and the time of
each. Captions go into .txt files beside the pictures, where `mmtune caption` writes them, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from mmtune.config import Section
from mmtune.data.importing import FRAMES, Imported, LeftOut
from mmtune.data.ledger import Ledger, Reason, Used
from mmtune.data.manifest import scan_files, write_manifest
from mmtune.data.text_beside import outside
from mmtune.errors import ConfigError, MmtuneError, NothingToUse, printable
from mmtune.image.corpus.scenes import Chosen, survey
from mmtune.image.image_row import SOURCE
from mmtune.image.pictures.alike import KnownLooks
from mmtune.image.pictures.encode import save_picture
from mmtune.image.pictures.pixels import ImageFault, decoded
from mmtune.image.pictures.suffixes import VIDEO_SUFFIXES, readable_suffixes
from mmtune.image.pictures.video import Frames
from mmtune.system.files import PARTIAL, remove_partials, unique_name, write_json
from mmtune.system.inside import leads_out
from mmtune.system.locks import LOCK, locked
from mmtune.system.stored import intact_json_lines, read_json_object

METADATA = "metadata.jsonl"
MARK, LEFT_OUT = "import.json", "left_out.jsonl"
# Begins the names of folders, so that none is taken for a split, or for kohya's repeats.
PREFIX = "video-"


class FrameOptions(Section):
    """Settings of an import of frames."""

    max_frames: Annotated[int, Field(ge=1)] = 100  # of each video
    min_gap: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0  # seconds
    caption: Annotated[str, Field(min_length=1, max_length=5_000)] | None = None


@dataclass
class _Video:
    """A video with the frames that become pictures."""

    path: Path
    name: str  # as the metadata names it: its place in the source
    folder: str
    chosen: list[Chosen]
    frames: int

    def file_of(self, chosen: Chosen) -> str:
        whole = round(chosen.time * 1000)
        minutes, seconds = divmod(whole // 1000, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{self.folder}/{hours:02}-{minutes:02}-{seconds:02}-{whole % 1000:03}.png"


@dataclass
class _Found:
    """What the videos of a source give."""

    videos: list[_Video] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def import_frames(
    source: Path,
    to: Path,
    settings: Mapping[str, Any],
    progress: Callable[[int], None] | None = None,
    dry: bool = False,
) -> Imported:
    """Write frames of a video, or of all videos of a folder, as pictures.

    Each scene gives its sharpest frame, and one more for every ten seconds of a long one. Frames
    that look like an earlier one, or that show nothing, are left out.

    Args:
        source: a video, or a folder of videos.
        to: the new folder, or that of an earlier import of frames.
        settings: fields of `FrameOptions`.
        progress: called with the number of pictures so far.
        dry: write nothing; the result says what would be written.

    Raises:
        ConfigError: a setting is unknown or impossible, or `to` can't be used.
        NothingToUse: the source holds no video, or no picture could be taken and `to` holds an
            earlier import.
        Locked: another import writes into the folder.
    """
    options = _options(settings)
    _require_own(source, to)
    ledger = Ledger([source] if source.is_dir() else [], source if source.is_dir() else None)
    found = _survey_all(source, options, ledger, progress)
    rows = {
        video.file_of(chosen): _row(video, chosen, options)
        for video in found.videos
        for chosen in video.chosen
    }
    if dry:
        earlier = _earlier(to, rows, source, found)
    else:
        to.mkdir(parents=True, exist_ok=True)
        with locked(to):
            _require_own(source, to)  # another import may have come first
            earlier = _earlier(to, rows, source, found)
            facts = {"source": str(source), "format": FRAMES, **options.model_dump()}
            write_json(to / MARK, facts)  # first, because it lets an interrupted import be repeated
            _remove(to, earlier - rows.keys())
            write_manifest(to / METADATA, list(rows.values()))
            for video in found.videos:
                _write_pictures(video, to)
            write_manifest(to / LEFT_OUT, [asdict(each) for each in found.left_out])
            write_json(to / MARK, facts | {"rows": len(rows), "left_out": len(found.left_out)})
    return Imported(
        to,
        FRAMES,
        len(rows),
        tuple(found.left_out),
        files=ledger.counts(),
        new=tuple(name for name in rows if name not in earlier),
        removed=tuple(sorted(earlier - rows.keys())),
        dry=dry,
        following="" if options.caption else f"mmtune caption {to} --model MODEL",
    )


def _options(settings: Mapping[str, Any]) -> FrameOptions:
    try:
        return FrameOptions.model_validate(dict(settings))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = "--" + str(problem["loc"][0]).replace("_", "-")
        if problem["type"] == "extra_forbidden":
            raise ConfigError(
                f"{name} has no effect on frames of videos",
                "leave it out; frames have --max-frames, --min-gap and --caption",
            ) from None
        raise ConfigError(f"{name}: {problem['msg']}", "see `mmtune import --help`") from None


def _require_own(source: Path, to: Path) -> None:
    if source.is_dir() and to.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{to} is inside {source}", "choose a folder outside of it: --to DIR")
    if source.resolve().is_relative_to(to.resolve()):
        raise ConfigError(
            f"{source} is inside {to}, and an import replaces files there",
            "choose another folder: --to DIR",
        )
    if not to.exists():
        return
    held = list(to.iterdir()) if to.is_dir() else [to]
    # A kill may have left a lock, and what was written aside.
    held = [path for path in held if not path.name.startswith((PARTIAL, LOCK))]
    if held and _layout_in(to) != FRAMES:
        raise ConfigError(
            f"{to} exists already and holds no import of frames",
            "choose another folder: --to DIR",
        )


def _layout_in(folder: Path) -> str:
    try:
        return str(read_json_object(folder / MARK, "").get("format"))
    except (OSError, MmtuneError):
        return ""


def _earlier(to: Path, rows: Collection[str], source: Path, found: _Found) -> set[str]:
    """The pictures of an earlier import, which are kept if this one would leave none.

    Raises:
        NothingToUse: this import has no rows, and the earlier one has some.
    """
    earlier = _pictures_in(to)
    if earlier and not rows:
        why = f"; the first: {found.left_out[0].found}" if found.left_out else ""
        raise NothingToUse(
            printable(f"{source} gives no picture{why}; the earlier import in {to} is kept"),
            "correct the source; if the earlier import is no longer needed, delete its folder",
        )
    return earlier


def _pictures_in(folder: Path) -> set[str]:
    """The pictures of an earlier import, by their place in the folder."""
    try:
        rows = list(intact_json_lines(folder / METADATA))
    except OSError:
        return set()
    return {name for row in rows if isinstance(name := row.get("file_name"), str)}


def _survey_all(
    source: Path,
    options: FrameOptions,
    ledger: Ledger,
    progress: Callable[[int], None] | None,
) -> _Found:
    folder = source if source.is_dir() else source.parent
    paths = [source]
    if source.is_dir():
        paths = [source / path for _, path in scan_files(source, VIDEO_SUFFIXES)]
    if not paths:
        raise NothingToUse(
            f"{source} holds no videos ({' '.join(VIDEO_SUFFIXES)})",
            "give a video, or a folder of videos",
        )
    found, known = _Found(), KnownLooks()
    taken: set[str] = set()
    count = 0

    def counted() -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count)

    for path in paths:
        name = path.relative_to(folder).as_posix()
        if source.is_dir() and path.is_symlink() and leads_out(source, path):
            away = outside(path, name)
            _leave(found, ledger, path, name, LeftOut(name, away.message, away.cure, away.kind))
            continue
        if path.suffix.lower() == ".gif" and _is_still(path):
            cure = "copy it into the new folder" if source.is_dir() else "give a video"
            still = LeftOut(name, "this GIF has one frame: it is a picture", cure, "unused-image")
            _leave(found, ledger, path, name, still)
            continue
        frames = Frames(path)
        try:
            result = survey(frames, known, options.max_frames, options.min_gap, counted)
        except ImageFault as fault:
            _leave(found, ledger, path, name, LeftOut(name, fault.found, fault.cure, fault.kind))
            continue
        slug = re.sub(r"[^\w.-]+", "-", Path(name).with_suffix("").as_posix()).strip("-.") or "x"
        place = unique_name(PREFIX + slug, taken)
        taken.add(place)
        found.videos.append(_Video(path, name, place, result.chosen, result.frames))
        ledger.use(Used(path))
        notes = {
            "near-duplicate": (result.copies, "look like an earlier picture"),
            "blank": (result.plain, "show one colour only"),
            "min-gap": (result.near, f"come less than {options.min_gap:g} s after a picture"),
            "max-frames": (result.surplus, f"are more than {options.max_frames} pictures"),
        }
        cures = {"min-gap": "lower --min-gap", "max-frames": "raise --max-frames"}
        for kind, (number, why) in notes.items():
            if number:
                said = f"{number} of {result.scenes} scenes {why}"
                cure = cures.get(kind, "no action is needed")
                found.left_out.append(LeftOut(name, said, cure, kind, "note", name, number))
        if frames.fault or frames.damaged:
            said = f"{frames.damaged} of its frames are damaged"
            if frames.fault:
                said = f"it can't be read after frame {result.frames}: {frames.fault}"
            cure = "copy the file again from its source"
            found.left_out.append(LeftOut(name, said, cure, "damaged", file=name))
        if not result.chosen:
            said = f"none of its {result.frames} frames became a picture"
            found.left_out.append(LeftOut(name, said, "remove it", "unused-video", file=name))
    for each in ledger.findings(_reason_of):
        found.left_out.append(
            LeftOut(each.row, each.message, each.cure, each.kind, each.severity, each.file)
        )
    return found


def _is_still(path: Path) -> bool:
    """Whether an image file holds one picture only; one that can't be read has its fault later."""
    try:
        with decoded(path, reduced=True) as picture:
            return not getattr(picture.image, "is_animated", False)
    except ImageFault:
        return False


def _leave(found: _Found, ledger: Ledger, path: Path, name: str, why: LeftOut) -> None:
    ledger.leave(path)
    found.left_out.append(LeftOut(name, why.found, why.cure, why.kind, file=name))


def _reason_of(path: Path) -> Reason | None:
    if path.suffix.lower() in readable_suffixes():
        return Reason("unused-image", "it is a picture, not a video", "copy it into the new folder")
    return None


def _row(video: _Video, chosen: Chosen, options: FrameOptions) -> dict[str, Any]:
    group = {SOURCE: video.name, f"{SOURCE}_start": f"{chosen.time:.3f}"}
    text = {"text": options.caption} if options.caption else {}
    return {"file_name": video.file_of(chosen), **text, "group": group}


def _write_pictures(video: _Video, to: Path) -> None:
    wanted = {chosen.number: chosen for chosen in video.chosen}
    if not wanted:
        return
    place = to / video.folder
    if place.is_symlink():
        raise ConfigError(
            f"{place} is a link, and an import replaces files there",
            "remove the link, or choose another folder: --to DIR",
        )
    place.mkdir(exist_ok=True)
    remove_partials(place)
    last = max(wanted)
    for frame in Frames(video.path):
        if (chosen := wanted.get(frame.number)) is not None:
            save_picture(frame.picture(), to / video.file_of(chosen), private=True)
        if frame.number >= last:
            break


def _remove(to: Path, names: set[str]) -> None:
    """Remove pictures of an earlier import; captions beside them stay."""
    for name in names:
        place = to / name
        own = name.startswith(PREFIX) and place.suffix == ".png" and len(Path(name).parts) == 2
        if own and place.is_file() and not place.is_symlink() and not place.parent.is_symlink():
            place.unlink()


__all__ = ["FrameOptions", "import_frames"]
