"""ICC profiles of colours that a file states without one: CICP, gamma and primaries, Exif."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image

SRGB = b""  # no conversion is needed
# x and y of white, red, green and blue.
Places = Sequence[float]
D65 = (0.3127, 0.3290)
SRGB_PLACES = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_PLACES = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)  # Adobe RGB (1998), section 4.3.1.1
ADOBE_GAMMA = 563 / 256
# Colour primaries by their number in Rec. ITU-T H.273, table 2.
PRIMARIES: dict[int, Places] = {
    1: SRGB_PLACES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
# Curves as parameters of ICC's parametricCurveType: g alone, or g, a, b, c, d.
Curve = tuple[float, ...]
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
VIDEO_CURVE: Curve = (2.4,)  # of displays of video (Rec. ITU-R BT.1886), as browsers take it
# Transfer characteristics by their number in H.273, table 3.
CURVES: dict[int, Curve] = {
    1: VIDEO_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: VIDEO_CURVE,
    8: (1.0,),
    13: SRGB_CURVE,
    14: VIDEO_CURVE,
    15: VIDEO_CURVE,
}
HDR = {16: "PQ", 18: "HLG"}
# Encoders state the curve of video, or none, for what is sRGB, and browsers show it so.
VIDEO_TRANSFERS = (1, 2, 6, 14, 15)
PLAIN_GAMMA = 0.45455  # what programs write for sRGB; browsers take it so
# XYZ of D50, the white of ICC's connection space, and Bradford's matrix (ICC.1:2022, annex E).
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def cicp_profile(primaries: int, transfer: int) -> bytes | None:
    """The profile of coding-independent code points (Rec. ITU-T H.273).

    Returns:
        The profile, `SRGB`, or None: the code points are unspecified or unknown.

    Raises:
        ValueError: the transfer is one of HDR.
    """
    if transfer in HDR:
        raise ValueError(f"its colours are HDR ({HDR[transfer]})")
    if (primaries, transfer) == (1, 13):
        return SRGB
    if primaries not in PRIMARIES or transfer not in CURVES:
        return None
    return matrix_profile(tuple(PRIMARIES[primaries]), CURVES[transfer])


def gamma_profile(gamma: float, places: Places | None) -> bytes:
    """The profile of PNG's gAMA and cHRM; `SRGB` if they state nothing else or are impossible.

    Args:
        gamma: exponent from light to samples, such as 0.45455.
        places: x and y of white, red, green and blue; None: those of sRGB.
    """
    if not 0.05 <= gamma <= 20 or (places is None and abs(gamma - PLAIN_GAMMA) < 1e-5):
        return SRGB
    try:
        return matrix_profile(tuple(places or SRGB_PLACES), (1 / gamma,))
    except ValueError:
        return matrix_profile(SRGB_PLACES, (1 / gamma,))


def exif_profile(image: Image.Image) -> bytes:
    """The profile of the colour space that Exif states: Adobe RGB by DCF, or gamma and primaries.

    Args:
        image: opened; its Exif is read.

    Returns:
        The profile; `SRGB` if it states that, nothing, or nothing that can be read.
    """
    try:
        exif = image.getexif()
        own = exif.get_ifd(ExifTags.IFD.Exif)
        space = own.get(ExifTags.Base.ColorSpace)
        try:
            interop = str(exif.get_ifd(ExifTags.IFD.Interop).get(1, "")).strip("\0 ")
        except KeyError:  # Pillow before 13 raises it where there is none
            interop = ""
        # DCF 2.0: uncalibrated, and R03 for the optional colour space. Others write 2 for it.
        if space == 2 or (space != 1 and interop == "R03"):
            return matrix_profile(ADOBE_PLACES, (ADOBE_GAMMA,))
        gamma = float(own.get(ExifTags.Base.Gamma, 0))
        white = exif.get(ExifTags.Base.WhitePoint)
        primaries = exif.get(ExifTags.Base.PrimaryChromaticities)
        if space != 1 and gamma and white and primaries:
            places = tuple(float(value) for value in (*white, *primaries))
            return gamma_profile(1 / gamma, places) if len(places) == 8 else SRGB
    except Exception:  # a damaged EXIF block says nothing of the colours
        return SRGB
    return SRGB


def box_profile(head: bytes) -> bytes | None:
    """The profile that the first `nclx` colour box of an AVIF or HEIF file states.

    Args:
        head: the beginning of the file, with its boxes.

    Raises:
        ValueError: its colours are of an HDR system.
    """
    place = head.find(b"colrnclx")
    if place < 0 or len(head) < place + 12:
        return None
    primaries, transfer = struct.unpack(">HH", head[place + 8 : place + 12])
    return cicp_profile(primaries, 13 if transfer in VIDEO_TRANSFERS else transfer)


def is_profile(data: bytes) -> bool:
    """Whether bytes begin as an ICC profile does."""
    return len(data) >= 132 and data[36:40] == b"acsp"


@functools.lru_cache(maxsize=64)
def matrix_profile(places: tuple[float, ...], curve: Curve) -> bytes:
    """Make an ICC profile of three primaries, a white and one curve (ICC.1:2022, section 8.3.3).

    Args:
        places: x and y of white, red, green and blue.
        curve: the parameters of a parametricCurveType, of type 0 or 3.

    Raises:
        ValueError: the primaries enclose no colours.
    """
    white, *primaries = (
        np.array([x, y, 1 - x - y]) for x, y in zip(places[::2], places[1::2], strict=True)
    )
    if any(point[1] <= 0 for point in (white, *primaries)):
        raise ValueError("a colour without light")
    white = white / white[1]
    columns = np.array([point / point[1] for point in primaries]).T
    if abs(np.linalg.det(columns)) < 1e-6:
        raise ValueError("the primaries lie on a line")
    columns = columns * np.linalg.solve(columns, white)
    cone = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    adapted = np.linalg.inv(BRADFORD) @ cone @ BRADFORD @ columns
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 100:
        raise ValueError("the primaries are impossible")
    kind = 0 if len(curve) == 1 else 3
    tone = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + b"".join(map(_fixed, curve))
    tags = [(b"wtpt", _xyz(D50))]
    tags += [(name, _xyz(adapted[:, i])) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(name, tone) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 0, b"", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(D50)[8:]
    head = head.ljust(128, b"\0")
    return struct.pack(">I", len(head + table + body)) + head[4:] + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(float(value)) for value in values)
