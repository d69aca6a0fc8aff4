"""A decoded image with what its file states of its colours, and its form as RGB in sRGB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

LINES = 2**18  # pixels that are scaled to 8 bits at once


@dataclass
class Picture:
    """A decoded image, of any mode, and what its file states of its colours.

    Attributes:
        image: the pixels, as they are stored.
        profile: an ICC profile, which may be made of what the file states otherwise; empty: sRGB,
            or nothing is stated.
        profile_fault: why a profile that the file has or names isn't used; empty if there is none.
        grey: the values of black and white, for grey of more than 8 bits; None: the usual ones.
        reading: the `READING_VERSION` in which its pixels changed last; 0: they never did.
    """

    image: Image.Image
    profile: bytes = b""
    profile_fault: str = ""
    grey: tuple[float, float] | None = None
    reading: int = 0

    @property
    def is_transparent(self) -> bool:
        """Whether parts of it may be transparent."""
        return bool(self.image.has_transparency_data)

    def flattened(self, background: str = "white") -> Image.Image:
        """RGB in sRGB, with the transparent parts on `background`.

        The profile is applied by `ImageCms.profileToProfile` with its default settings.
        """
        return self.flattened_and_alpha(background)[0]

    def flattened_and_alpha(
        self, background: str = "white"
    ) -> tuple[Image.Image, Image.Image | None]:
        """What `flattened` gives, and the alpha; None: all of it is opaque."""
        rgb, alpha = self.without_alpha()
        if alpha is None:
            return rgb, None
        rgb.putalpha(alpha)
        under = Image.new("RGBA", rgb.size, background)
        return Image.alpha_composite(under, rgb).convert("RGB"), alpha

    def without_alpha(self) -> tuple[Image.Image, Image.Image | None]:
        """The colours as RGB in sRGB, and the alpha; None: all of it is opaque."""
        image = self.image
        if image.mode == "F" or image.mode.startswith("I"):
            image = self._in_eight_bits()
        if image.mode in ("RGBa", "La"):  # premultiplied alpha must be divided out first
            image = image.convert(image.mode.upper())
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        return _to_srgb(_colours(image), self.profile).convert("RGB"), alpha

    def visible_range(self) -> tuple[bytes, bytes] | None:
        """The least and the greatest red, green and blue of the parts that aren't transparent.

        Returns:
            Three bytes each; None: nothing of the image is visible.
        """
        image = self.image
        if image.mode not in ("L", "RGB", "CMYK") or "transparency" in image.info:
            rgb, alpha = self.without_alpha()
        else:
            rgb, alpha = image.convert("RGB"), None
        counts = np.array(rgb.histogram(alpha)).reshape(3, 256)
        if not counts.any():
            return None
        seen = [np.flatnonzero(band) for band in counts]
        return bytes(band[0] for band in seen), bytes(band[-1] for band in seen)

    def has_shape(self) -> bool:
        """Whether some parts of it are more transparent than others."""
        if not self.is_transparent:
            return False
        low, high = self.image.convert("RGBA").getchannel("A").getextrema()
        return bool(low != high)

    def colour_fault(self) -> str:
        """Why its colours aren't known; empty if they are."""
        if self.profile_fault:
            return self.profile_fault
        mode = self.image.mode
        if not self.profile:
            return "its inks have no colour profile" if mode == "CMYK" else ""
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(self.profile)).profile
            space = profile.xcolor_space.strip()
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return "its colour profile is damaged"
        wanted = {"CMYK": "CMYK", "LAB": "Lab"}.get(mode, "RGB")
        if space == wanted or (space == "GRAY" and mode in ("1", "L", "LA", "I", "F", "I;16")):
            return ""
        return f"its colour profile is for {space}, not for {wanted}"

    def thumbnail(self, side: int, background: str = "white") -> Image.Image:
        """Scale it to a square of `side` pixels: RGB in sRGB, upright, without transparency.

        The aspect ratio is not kept.

        Args:
            side: pixels.
            background: colour behind transparent parts.
        """
        picture = self.upright() if _is_rotated(self.image) else self
        image = picture.image
        if image.mode not in ("L", "RGB", "RGBA", "CMYK") or "transparency" in image.info:
            # Pixel values that are indices or have a transparent value can't be averaged.
            return picture.flattened(background).resize((side, side), Image.Resampling.BOX)
        small = image.resize((side, side), Image.Resampling.BOX)
        return replace(picture, image=small).flattened(background)

    def upright(self) -> Picture:
        """The picture as it is to be seen: phones store portraits sideways, and Exif says so."""
        try:
            return replace(self, image=ImageOps.exif_transpose(self.image))
        except Exception:  # a damaged EXIF block says nothing of the pixels
            return self

    def _in_eight_bits(self) -> Image.Image:
        # Pillow's convert() clips these: a 16-bit grey would become white.
        stored = np.asarray(self.image)
        hole = self.image.info.get("transparency")
        grey = np.empty(stored.shape, np.uint8)
        opaque = np.empty(stored.shape, np.uint8) if isinstance(hole, int) else None
        for lines in _portions(stored):
            values = stored[lines].astype(np.float64)
            black, white = self.grey or ((0.0, 1.0) if self.image.mode == "F" else (0.0, 65_535.0))
            if max(black, white) > 2.0**31:
                values = values % 2**32  # Pillow reads unsigned numbers as signed ones
            shares = (values - black) / (white - black)
            grey[lines] = np.clip(np.rint(shares * 255), 0, 255)
            if opaque is not None:  # this value is transparent
                opaque[lines] = np.where(values == hole, 0, 255)
        image = Image.fromarray(grey)
        if opaque is not None:
            image.putalpha(Image.fromarray(opaque))
        return image


def is_lying(image: Image.Image) -> bool:
    """Whether the orientation of an image exchanges its width and height."""
    return _orientation(image) in (5, 6, 7, 8)


def is_finite(image: Image.Image) -> bool:
    """Whether all pixels of an image of floating-point numbers are numbers that exist."""
    stored = np.asarray(image)
    return all(np.isfinite(stored[lines]).all() for lines in _portions(stored))


def _portions(values: np.ndarray) -> Iterator[slice]:
    """Slices of lines, so that no copy of a whole large image is made."""
    step = max(1, LINES // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block says nothing of the pixels
        return 1


def _is_rotated(image: Image.Image) -> bool:
    return _orientation(image) != 1


def _colours(image: Image.Image) -> Image.Image:
    # Without alpha, in a mode that an ICC profile can describe.
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    # In a wide-gamut file the same numbers mean other colours, and a brand's colours matter.
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")  # a grey image that kept its camera's RGB profile
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image  # the profile is damaged or of another colour space: ignore it
    return image if converted is None else converted
