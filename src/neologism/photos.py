"""A folder, an archive or a file of pictures -> photos that can be learned from, and why the others cannot."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from neologism.errors import PhotosError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow's other parsers never see a stranger's bytes
READ = "jpg, jpeg, png, webp, bmp, gif, tif and tiff"
MASK = ".mask.png"
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".psd", ".dng", ".cr2", ".nef", ".arw")  # people do bring these
MOST_PIXELS = 100_000_000
MOST_BYTES = 2 * 1024**3
MOST_MEMBERS = 10_000


@dataclass(frozen=True)
class Photo:
    """A picture that can be learned from; `size` is (width, height) after the EXIF turn."""

    path: Path
    size: tuple[int, int]
    caption: str | None
    mask: Path | None
    alpha: bool
    sha256: str


@dataclass(frozen=True)
class Unfit:
    """A picture that cannot be used, and why: the rest of a sentence that starts with its name."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Gathered:
    """What a source holds. There is always at least one photo."""

    photos: list[Photo]
    unfit: list[Unfit]
    warnings: list[str]


@dataclass(frozen=True)
class Examined:
    """A photo, a 32 x 32 thumbnail of it to find near duplicates by, and what to say about it."""

    photo: Photo
    thumbnail: Image.Image
    warnings: list[str]


@dataclass(frozen=True)
class Found:
    """The files of a source: pictures in order of name, those refused unseen, and what to say."""

    pictures: list[Path]
    unfit: list[Unfit] = field(default_factory=list[Unfit])
    warnings: list[str] = field(default_factory=list[str])


def gather(source: Path, side: int | None = None) -> Gathered:
    """The photos in a folder (not its subfolders), a .zip archive, or one picture file.

    Args:
        source: where the pictures are.
        side: the side they will be trained at; smaller pictures are warned about.

    Raises:
        PhotosError: the source is missing or unreadable, or holds no picture that can be used.
    """
    found = allowed(source, lambda: find(source))
    seen = [examined(path, side) for path in found.pictures]
    fit = [one for one in seen if isinstance(one, Examined)]
    unfit = found.unfit + [one for one in seen if isinstance(one, Unfit)]
    if not fit:
        raise PhotosError(none_fit(source, unfit))
    said = found.warnings + [text for one in fit for text in one.warnings]
    return Gathered([one.photo for one in fit], unfit, said + how_many(source, len(fit)) + near_duplicates(fit))


def opened(photo: Photo) -> tuple[Image.Image, Image.Image | None]:
    """The photo as an RGB picture, turned as EXIF says, and its mask (mode "L", white is learned) if it has one.

    A mask file comes before transparency; transparent parts are shown on white.

    Raises:
        PhotosError: the file has gone or changed since it was gathered.
    """
    try:
        image, alpha = flat(decoded(contents(photo.path)), "white")
        return image, mask_of(photo.mask, image.size) if photo.mask else alpha
    except PhotosError as error:
        raise PhotosError(f"{photo.path} {error}. It was well when the pictures were gathered; put it back.") from None


# finding files


def allowed(source: Path, act: Callable[[], Found]) -> Found:
    """What `act` finds, its refusals by the system told as sentences."""
    try:
        return act()
    except PermissionError:
        raise PhotosError(f"{source} may not be read: permission denied. Give yourself the right to read it.") from None


def find(source: Path) -> Found:
    """The picture files that the source stands for."""
    if source.is_dir():
        return in_folder(source, source)
    if not source.exists():
        raise PhotosError(f"There is nothing at {source}. Give a folder of pictures, a .zip archive or a picture file.")
    if source.suffix.lower() == ".zip":
        folder, unfit = unpacked(source)
        found = in_folder(folder, source)
        return Found(found.pictures, unfit, found.warnings)
    if source.suffix.lower() in EXTENSIONS:
        return Found([source])
    raise PhotosError(f"{source} is no picture: {READ} are read, a folder of them or a .zip archive. Give such.")


def in_folder(folder: Path, source: Path) -> Found:
    """The pictures right in a folder, which the user knows as `source`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if is_picture(path.name)]
    left = [path.name for path in files if path.suffix.lower() in UNREAD]
    if not pictures:
        holds = "is empty" if source.is_dir() and not any(source.iterdir()) else "has no picture right in it"
        raise PhotosError(f"{source} {holds}: {READ} are read, subfolders are not. Put 3 to 10 pictures there.")
    text = f"{', '.join(left)} in {source} cannot be read: {READ} are. Convert to one of these to use it."
    return Found(pictures, warnings=[text] if left else [])


def is_picture(name: str) -> bool:
    """Whether a file of that name is a picture to learn from."""
    return not name.startswith(".") and not name.lower().endswith(MASK) and name.lower().endswith(EXTENSIONS)


def unpacked(archive: Path) -> tuple[Path, list[Unfit]]:
    """A folder in the cache with the archive's pictures, captions and masks, and the members refused."""
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as opened_zip:
            members, refused = wanted(archive, opened_zip.infolist())
            file.seek(0)
            folder = cache() / "archives" / hashlib.file_digest(file, "sha256").hexdigest()[:32]
            if not folder.is_dir():
                extract(opened_zip, members, folder)
            return folder, refused
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error):  # RuntimeError: a password
        raise PhotosError(f"{archive} is damaged, has a password, or is no .zip archive. Pack it again.") from None


def wanted(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> tuple[list[zipfile.ZipInfo], list[Unfit]]:
    """Members in the outermost folder that has pictures, and pictures whose name would leave the archive."""
    if len(infos) > MOST_MEMBERS or sum(info.file_size for info in infos) > MOST_BYTES:
        raise PhotosError(f"{archive} unpacks to more than 2 GiB or {MOST_MEMBERS} files. Pack only the pictures.")
    paths = [(PurePosixPath(info.filename.replace("\\", "/")), info) for info in infos if not info.is_dir()]
    strays = [path for path, _ in paths if is_picture(path.name) and (path.is_absolute() or ".." in path.parts)]
    inside = [(path, info) for path, info in paths if path not in strays and "__MACOSX" not in path.parts]
    parents = [path.parent for path, _ in inside if is_picture(path.name)]
    top = min(parents, key=lambda parent: (len(parent.parts), str(parent)), default=PurePosixPath())
    kinds = (*EXTENSIONS, ".txt", *UNREAD)
    members = [info for path, info in inside if path.parent == top and path.name.lower().endswith(kinds)]
    return members, [Unfit(archive / str(path), "has a name that leads out of the archive") for path in strays]


def extract(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], folder: Path) -> None:
    """Write the members into the folder, which appears only once it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as partial:
            inside = Path(partial) / "inside"
            inside.mkdir()
            for info in members:  # only the last part of a name is used, so nothing is written elsewhere
                (inside / PurePosixPath(info.filename.replace("\\", "/")).name).write_bytes(archive.read(info))
            inside.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, which is as good
            why = (error.strerror or "unknown error").lower()
            text = f"Nothing can be unpacked to {folder.parent}: {why}. Set XDG_CACHE_HOME to a folder with room."
            raise PhotosError(text) from None


def cache() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/neologism."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "neologism"


# judging one picture


def examined(path: Path, side: int | None) -> Examined | Unfit:
    """The photo at a path, decoded once in full, or why it is unfit."""
    try:
        data = contents(path)
        raw = decoded(data)
        image, alpha = flat(raw, "white")
        mask = beside if (beside := path.with_name(path.stem + MASK)).is_file() else None
        area = mask_of(mask, image.size) if mask else alpha
        if area is not None and area.getbbox() is None:
            raise PhotosError("has an empty mask, or is transparent all over: nothing of it would be learned")
        digest = hashlib.sha256(data + (contents(mask) if mask else b"")).hexdigest()
        photo = Photo(path, image.size, caption_of(path), mask, alpha is not None, digest)
    except PhotosError as error:
        return Unfit(path, str(error))
    return Examined(photo, image.resize((32, 32), Image.Resampling.LANCZOS), remarks(photo, raw, side))


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
    with warnings.catch_warnings():  # Pillow murmurs about odd metadata; its bomb warning is our own limit below
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            upright = turned(image)
            upright.info["icc_profile"] = image.info.get("icc_profile")
            # a phone's MPO holds a second view of the same scene, which is no animation
            upright.info["animated"] = image.format != "MPO" and getattr(image, "is_animated", False)
            return upright
        except Image.DecompressionBombError:
            raise PhotosError("has more than 100 megapixels; make it smaller") from None
        except UnidentifiedImageError:
            raise PhotosError("is no JPEG, PNG, WebP, BMP, GIF or TIFF inside, whatever its name") from None
        except Exception:  # on broken files the decoders raise nearly anything
            raise PhotosError("is damaged or cut short") from None


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


def mask_of(path: Path, size: tuple[int, int]) -> Image.Image:
    """The mask in a file, mode "L"."""
    try:
        mask, _ = flat(decoded(contents(path)), "black")
    except PhotosError as error:
        raise PhotosError(f"has a mask, {path.name}, that {error}") from None
    if mask.size != size:
        found, due = (f"{w} x {h}" for w, h in (mask.size, size))
        raise PhotosError(f"has a mask, {path.name}, of {found} pixels; it must be {due} like the picture")
    return mask.convert("L")


def caption_of(path: Path) -> str | None:
    """The text beside a picture, on one line."""
    beside = path.with_suffix(".txt")
    try:
        return " ".join(beside.read_text("utf-8-sig").split()) or None if beside.is_file() else None
    except (OSError, UnicodeDecodeError):
        raise PhotosError(f"has a caption, {beside.name}, that cannot be read as UTF-8 text") from None


# what to say


def remarks(photo: Photo, raw: Image.Image, side: int | None) -> list[str]:
    """What the user should know of one photo."""
    name, (width, height) = photo.path.name, photo.size
    said = [f"{name} is animated; only its first frame is used."] if raw.info["animated"] else []
    if raw.mode == "CMYK":
        said.append(f"{name} is CMYK; it was converted to RGB, and its colours may look a little different.")
    if side is not None and min(photo.size) < side:
        said.append(f"{name} is small: {width} x {height} pixels, enlarged to {side}. Sharper pictures teach more.")
    return said


def how_many(source: Path, count: int) -> list[str]:
    """What to say of the number of pictures."""
    if count == 1:
        return [f"{source} gives one picture; 3 to 10 is usual, one alone does not tell a thing from its surroundings."]
    text = f"{source} gives {count} pictures; 3 to 10 is usual. So many seldom make a better word."
    return [text] if count > 30 else []


def near_duplicates(seen: Sequence[Examined]) -> list[str]:
    """Pairs that show nearly the same; not looked for among more than 200, where a few do no harm."""
    if not 2 <= len(seen) <= 200:
        return []
    from imagehash import phash  # here, for it loads scipy

    marks = [(one.photo.path.name, phash(one.thumbnail), np.asarray(one.thumbnail, np.float32)) for one in seen]
    return [
        f"{a[0]} and {b[0]} are nearly the same picture; keep one, or the word will learn it by heart."
        for a, b in combinations(marks, 2)
        if a[1] - b[1] <= 4 and float(np.abs(a[2] - b[2]).mean()) <= 8  # small flat pictures collide by hash alone
    ]


def none_fit(source: Path, unfit: Sequence[Unfit]) -> str:
    """What is said where no picture can be used."""
    lines = "".join(f"\n  {one.path.name} {one.reason}" for one in unfit)
    return f"No picture in {source} can be used. Mend or replace these:{lines}"
