"""The bytes of a picture file -> its pixels in sRGB, upright, 8 bits a channel; or why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from neologism.errors import PhotosError

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "GIF",
    "TIFF",
    "AVIF",
    "HEIF",
)  # Pillow's other parsers never see a stranger's bytes
MOST_PIXELS = 100_000_000
MOST_BYTES = 2 * 1024**3
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def contents(path: Path) -> bytes:
    """The bytes of a file, if there are any and not absurdly many."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise PhotosError("is empty (0 bytes)")
        if size > MOST_BYTES:
            raise PhotosError("is larger than 2 GiB")
        return path.read_bytes()
    except OSError as error:
        raise PhotosError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None


def decoded(data: bytes) -> Image.Image:
    """The first frame, decoded in full and turned as EXIF says."""
    if data[4:8] == b"ftyp" and data[8:12] in HEIC:
        know_heic()
    with warnings.catch_warnings():  # Pillow murmurs about odd metadata; its bomb warning is our own limit below
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            upright = turned(image)
            upright.info["icc_profile"] = image.info.get("icc_profile")
            # a phone's MPO or HEIC holds a second view of the same scene, which is no animation
            upright.info["animated"] = image.format not in ("MPO", "HEIF") and getattr(image, "is_animated", False)
            return upright
        except Image.DecompressionBombError:
            raise PhotosError("has more than 100 megapixels; make it smaller") from None
        except UnidentifiedImageError:
            raise PhotosError("is no JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC inside, whatever its name") from None
        except Exception:  # on broken files the decoders raise nearly anything
            raise PhotosError("is damaged or cut short") from None


def know_heic() -> None:
    """Teach Pillow to read HEIC, a telephone's usual kind.

    Raises:
        PhotosError: the library for it is not installed.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PhotosError(
            "is HEIC, which needs a library; type pip install 'neologism[heic]', or save it as JPEG"
        ) from None
    register_heif_opener()


def turned(image: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation says; broken EXIF says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the parser raises nearly anything, and the pixels are well
        return image


def flat(image: Image.Image, ground: str) -> tuple[Image.Image, Image.Image | None]:
    """The picture in sRGB over a plain ground, and its alpha if not all of it is opaque."""
    try:
        clear = image.has_transparency_data and not is_deep(image)
        alpha = image.convert("RGBA").getchannel("A") if clear else None
        shown = in_srgb(eight_bit(image), image.info.get("icc_profile"))
    except (ValueError, OSError):
        raise PhotosError(f"has colours that cannot be converted to RGB ({image.mode})") from None
    if alpha is None or alpha.getextrema() == (255, 255):
        return shown, None
    return Image.composite(shown, Image.new("RGB", image.size, ground), alpha), alpha


def eight_bit(image: Image.Image) -> Image.Image:
    """The picture without alpha in a mode of 8 bits per channel; CMYK stays CMYK for its profile's sake."""
    if is_deep(image):  # Pillow's own conversion clips at 255 instead of scaling
        values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
        top = full_scale(image.mode, float(values.max()))
        return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")


def is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits; such pictures have one channel and no alpha in Pillow."""
    return image.mode == "F" or image.mode.startswith("I")


def full_scale(mode: str, largest: float) -> float:
    """The value that stands for white: what the mode says, or the nearest usual one above the largest found."""
    if mode.startswith("I;16"):
        return 65535
    return next((top for top in ((1, 255, 65535) if mode == "F" else (255, 65535)) if largest <= top), largest)


def in_srgb(image: Image.Image, profile: object) -> Image.Image:
    """The picture in sRGB; a profile that is broken, or of another kind than the picture, is ignored."""
    if isinstance(profile, bytes) and profile:
        try:
            given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(given):
                plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
                changed = ImageCms.profileToProfile(image, given, plain, outputMode="RGB")
                image = changed or image
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a bad profile says nothing about the pixels
    return image.convert("RGB")
