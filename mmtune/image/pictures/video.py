"""Frames of a video as pictures: upright, with square pixels, in sRGB, deinterlaced (PyAV).

The container is recognised by its first bytes and named to FFmpeg. If FFmpeg guessed the format
itself, it would also open playlists, which may name any other file of the machine.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmtune.image.pictures.colour_profiles import VIDEO_TRANSFERS, cicp_profile
from mmtune.image.pictures.misnamed import name_content
from mmtune.image.pictures.picture import Picture
from mmtune.image.pictures.pixels import COPY_AGAIN, ImageFault
from mmtune.system.pictures import MAX_PIXELS, MAX_SIDE
from mmtune.system.stored import opened, require_regular

CONVERT = "convert it: ffmpeg -i FILE -pix_fmt yuv420p NEW.mp4"
TO_SDR = "export it as SDR (Rec. 709)"
HD = 576  # lines; taller videos that state no matrix have that of Rec. 709, as players take it
UNSTATED, BT709 = 2, 1  # in Rec. ITU-T H.273
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders that keep the alpha
MAX_ASPECT = 10.0  # of a pixel; another one is a damaged header's
# Turns and mirrors by the signs of a display matrix (a, b, c, d).
Turn = Image.Transpose
TURNS = {
    (1, 0, 0, 1): None,
    (0, 1, -1, 0): Turn.ROTATE_270,
    (-1, 0, 0, -1): Turn.ROTATE_180,
    (0, -1, 1, 0): Turn.ROTATE_90,
    (-1, 0, 0, 1): Turn.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Turn.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Turn.TRANSPOSE,
    (0, -1, -1, 0): Turn.TRANSVERSE,
}


@dataclass(frozen=True)
class Form:
    """How a video's frames become pictures.

    Attributes:
        aspect: width of a pixel by its height.
        turn: what turns a frame upright; None: it is.
        profile: ICC profile of its colours; empty: sRGB.
        matrix: 1 where the matrix of Rec. 709 is to be used though none is stated; None: as stated.
    """

    aspect: float
    turn: Image.Transpose | None
    profile: bytes
    matrix: int | None


@dataclass(frozen=True)
class Frame:
    """A decoded frame; its methods raise `ImageFault` if its colours can't be converted.

    Attributes:
        path: the video.
        number: its place in the video, from 0.
        time: when it is shown, in seconds from the video's start.
        decoded: the frame of PyAV.
        form: how it becomes a picture.
    """

    path: Path
    number: int
    time: float
    decoded: Any
    form: Form

    def scaled(self, width: int, height: int, kind: str = "rgb24") -> NDArray[np.uint8]:
        """A small copy to measure: not turned, and in its own colours."""
        return self._converted(width, height, kind, interpolation="AREA")

    def picture(self) -> Image.Image:
        """The frame as RGB, or as RGBA if parts of it are transparent."""
        kind = "rgba" if _has_alpha(self.decoded) else "rgb24"
        pixels = self._converted(
            format=kind, src_colorspace=self.form.matrix, interpolation="BICUBIC"
        )
        image = Image.fromarray(pixels)
        width, height = image.size
        aspect = self.form.aspect
        if aspect != 1:  # the shorter side is enlarged, so that nothing is lost
            size = (
                (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
            )
            image = image.resize(size, Image.Resampling.LANCZOS)
        if self.form.turn is not None:
            image = image.transpose(self.form.turn)
        rgb, alpha = Picture(image, self.form.profile).without_alpha()
        if alpha is not None and alpha.getextrema() != (255, 255):
            rgb.putalpha(alpha)
        return rgb

    def _converted(self, *size: Any, **more: Any) -> NDArray[np.uint8]:
        import av

        try:
            return np.asarray(self.decoded.reformat(*size, **more).to_ndarray(), np.uint8)
        except (av.FFmpegError, ValueError) as error:
            found = f"{self.path} has colours that can't be converted: {_said(error)}"
            raise ImageFault("undecodable", found, CONVERT) from None


class Frames:
    """The frames of one video, in the order in which they are shown.

    Args:
        path: the file.

    Attributes:
        damaged: how many frames were left out because they are damaged.
        fault: why decoding stopped before the video's end; empty if it didn't.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.fault = ""
        self._last_error = "it has no frame that can be shown"

    def __iter__(self) -> Iterator[Frame]:
        """Decode the video from its beginning; frames that are damaged are left out.

        Raises:
            ImageFault: it can't be read, has no pictures, is HDR, too large or turned obliquely.
        """
        self.damaged, self.fault = 0, ""
        with _opened(self.path) as container:
            stream = _track(self.path, container)
            start = container.start_time or 0
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            form, number = None, 0
            for frame in self._decoded(container, stream):
                form = form or _form(self.path, stream, frame)
                shown = number / rate
                if frame.pts is not None and frame.time_base:
                    shown = float(frame.pts * frame.time_base) - start / 1_000_000
                yield Frame(self.path, number, max(0.0, shown), frame, form)
                number += 1
        if not number:
            why = self.fault or self._last_error
            raise ImageFault("undecodable", f"{self.path} can't be read: {why}", COPY_AGAIN)

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        smooth: _Deinterlaced | None = None
        for frame in self._intact(container, stream):
            _require_size(self.path, frame.width, frame.height)
            if frame.interlaced_frame and (smooth is None or not smooth.takes(frame)):
                if smooth is not None:
                    yield from smooth.rest()
                smooth = _Deinterlaced(frame)
            if smooth is not None and smooth.takes(frame):
                yield from smooth.of(frame)
            else:
                yield frame
        if smooth is not None:
            yield from smooth.rest()

    def _intact(self, container: Any, stream: Any) -> Iterator[Any]:
        import av

        packets, decode = container.demux(stream), _decoder(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError, ValueError) as error:
                self.fault = _said(error)
                return
            if packet is None:
                return
            try:
                frames = decode(packet)
            except (av.FFmpegError, ValueError, OverflowError) as error:
                self.damaged += 1
                self._last_error = _said(error)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += 1
                else:
                    yield frame


class _Deinterlaced:
    """FFmpeg's bwdif, which leaves progressive frames as they are."""

    def __init__(self, frame: Any) -> None:
        import av.filter

        self._kind = (frame.width, frame.height, frame.format.name)
        self._colours = (frame.colorspace, frame.color_range)
        self._graph: Any = av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        )
        smooth = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(smooth)
        smooth.link_to(sink)
        self._graph.configure()

    def takes(self, frame: Any) -> bool:
        return (frame.width, frame.height, frame.format.name) == self._kind

    def of(self, frame: Any) -> Iterator[Any]:
        self._graph.push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[Any]:
        self._graph.push(None)
        yield from self._ready()

    def _ready(self) -> Iterator[Any]:
        import av

        while True:
            try:
                frame = self._graph.pull()
            except (BlockingIOError, EOFError, av.FFmpegError):
                return
            frame.colorspace, frame.color_range = self._colours
            yield frame


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import av

    av.logging.set_level(av.logging.PANIC)
    try:
        require_regular(path)
        with opened(path) as file:
            kind = container_of(file.read(400))
    except OSError as error:
        found = f"{path} can't be read: {error.strerror or error}"
        raise ImageFault("unreadable", found, "correct the path, or allow reading it") from None
    if not kind:
        unknown = ("undecodable", "is not a video in a format that mmtune reads", "")
        fault, found, cure = name_content(path) or unknown
        raise ImageFault(fault, f"{path} {found}", cure if fault == "lfs-pointer" else CONVERT)
    try:
        # "file:" and the whitelist make FFmpeg treat the path as a file, whatever it looks like.
        container = av.open(
            f"file:{path}",
            format=kind,
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError, ValueError, UnicodeError) as error:
        found = f"{path} can't be read as a video: {_said(error)}"
        raise ImageFault("undecodable", found, COPY_AGAIN) from None
    with container:
        yield container


def _said(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def container_of(head: bytes) -> str:
    """FFmpeg's name of a container by its first bytes; "" if it is none that is read."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "" if head[8:12] in (b"heic", b"mif1", b"avif") else "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"\0\0\1\xba"):
        return "mpeg"
    # 188 bytes a packet; cameras put four of time before each.
    if any(head[at : at + 1] == head[at + step : at + step + 1] == b"G"
           for at, step in ((0, 188), (4, 192))):  # fmt: skip
        return "mpegts"
    return ""


def _track(path: Path, container: Any) -> Any:
    tracks = [
        stream
        for stream in container.streams.video
        if "attached_pic" not in str(stream.disposition) and stream.codec_context is not None
    ]
    if not tracks:
        found = f"{path} has no moving pictures that can be decoded"
        raise ImageFault("no-video", found, f"remove it, or {CONVERT}")
    tracks[0].thread_type = "AUTO"
    return tracks[0]


def _decoder(stream: Any) -> Callable[[Any], list[Any]]:
    """What decodes the packets of a stream: FFmpeg's own decoders of VP8 and VP9 lose the alpha."""
    import av

    stated = {key.casefold(): value for key, value in stream.metadata.items()}
    name = WITH_ALPHA.get(stream.codec_context.name, "")
    if stated.get("alpha_mode") != "1" or name not in av.codec.codecs_available:
        return lambda packet: list(packet.decode())
    decoder: Any = av.CodecContext.create(name, "r")
    return lambda packet: list(decoder.decode(packet))


def _form(path: Path, stream: Any, frame: Any) -> Form:
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    curve = 13 if transfer in VIDEO_TRANSFERS else transfer
    try:
        profile = b"" if primaries == UNSTATED else cicp_profile(primaries, curve)
        if primaries == UNSTATED:
            cicp_profile(BT709, curve)  # only to know that it is not HDR
        if "DOVI" in " ".join(str(each.type) for each in frame.side_data) and curve == 13:
            raise ValueError("its colours are HDR (Dolby Vision)")
    except ValueError as error:
        raise ImageFault("hdr", f"{path}: {error}, which mmtune can't show", TO_SDR) from None
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        aspect = 1.0
    _require_size(path, round(frame.width * max(1, aspect)), round(frame.height / min(1, aspect)))
    unstated = int(frame.colorspace) == UNSTATED and frame.height > HD
    return Form(aspect, _turn(path, frame), profile or b"", BT709 if unstated else None)


def _turn(path: Path, frame: Any) -> Image.Transpose | None:
    side = next((each for each in frame.side_data if each.type.name == "DISPLAYMATRIX"), None)
    if side is None or len(bytes(side)) < 36:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side)[:36])
    most = max(map(abs, (a, b, c, d))) or 1
    signs = tuple(round(value / most) for value in (a, b, c, d))
    rests = [abs(value - most * sign) for value, sign in zip((a, b, c, d), signs, strict=True)]
    if signs not in TURNS or max(rests) > most / 100:
        found = f"{path} is turned by an angle that is no quarter turn"
        raise ImageFault("turned", found, "export it upright")
    return TURNS[signs]


def _require_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageFault(
            "size-bomb",
            f"{path} has frames of {width}x{height} pixels; the limit is {MAX_PIXELS:,} pixels",
            "reduce it: ffmpeg -i FILE -vf scale=2048:-2 NEW.mp4",
        )


def _has_alpha(frame: Any) -> bool:
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
