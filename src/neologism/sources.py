"""A folder, an archive or a file -> the picture files in it."""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from neologism.decoding import MOST_BYTES
from neologism.errors import PhotosError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif")
READ = "jpg, jpeg, png, webp, bmp, gif, tif, tiff, avif, heic and heif"
MASK = ".mask.png"
UNREAD = (".jxl", ".psd", ".dng", ".cr2", ".nef", ".arw")  # people do bring these
MOST_MEMBERS = 10_000


@dataclass(frozen=True)
class Unfit:
    """A picture that cannot be used, and why: the rest of a sentence that starts with its name."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """The files of a source: pictures in order of name, those refused unseen, and what to say."""

    pictures: list[Path]
    unfit: list[Unfit] = field(default_factory=list[Unfit])
    warnings: list[str] = field(default_factory=list[str])


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
            folder = cache_folder() / "archives" / hashlib.file_digest(file, "sha256").hexdigest()[:32]
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
    kinds = (*EXTENSIONS, ".txt", "metadata.jsonl", *UNREAD)
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
            text = f"Nothing can be unpacked to {folder.parent}: {why}. Set NEOLOGISM_CACHE to a folder with room."
            raise PhotosError(text) from None


def cache_folder() -> Path:
    """Where what can be made again is kept: NEOLOGISM_CACHE, or the user's cache folder."""
    named = os.environ.get("NEOLOGISM_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "neologism"


def library(name: str, purpose: str, extra: str, otherwise: str) -> Any:
    """A library that not everybody needs: what needs it, which extra of ours brings it, and what to do without.

    Raises:
        PhotosError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, SystemExit):  # rembg ends the program where onnxruntime is missing
        raise PhotosError(
            f"{purpose} needs {name.partition('.')[0]}, which is not installed. Type pip install 'neologism[{extra}]', or {otherwise}."
        ) from None
