"""Captioned pictures: a folder, an archive, shards or a dataset -> photos with captions, and which of them are held out."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neologism import photos, sources
from neologism.errors import PhotosError
from neologism.photos import Gathered, Photo
from neologism.sources import EXTENSIONS, Unfit, cache_folder, library

CAPTIONS = ("text", "caption", "captions", "prompt", "description")  # what the field calls the column
IMAGES = ("image", "img", "jpg", "png", "bytes")
FILES = ("file_name", "file", "path", "image")
SHARDS = (".tar", ".parquet")
MOST_BYTES = 2**30  # of one member
EXTRA = ("datasets", "give a folder that is there")
"""What brings the libraries, and what to do without."""


@dataclass(frozen=True)
class Pairs:
    """Photos that all have captions: those to learn from and those held out, and what to say of the others."""

    given: list[Photo]
    held_out: list[Photo]
    unfit: list[Unfit]
    warnings: list[str]


def pairs(source: str, side: int, held_out: float = 0.1) -> Pairs:
    """The captioned pictures of a source, a share of them held out by the hash of their content.

    A source is a folder (NAME.txt beside each picture, or metadata.jsonl), a .zip of one, .tar shards as WebDataset has them or
    .parquet files with an image column (one file, or a folder of them), or the id of a dataset that `datasets` can load.

    Raises:
        PhotosError: there is nothing to learn from, or nothing left to hold out.
    """
    found = gathered(source, side)
    bare = [photo for photo in found.photos if not photo.caption]
    known = [photo for photo in found.photos if photo.caption]
    last = {photo.sha256: photo for photo in known}  # the same picture twice must not be on both sides
    ordered = sorted(last.values(), key=lambda photo: photo.sha256)
    count = max(1, round(held_out * len(ordered)))
    if len(ordered) < 2:
        raise PhotosError(
            f"{source} has {len(ordered)} captioned pictures; at least 2 are needed, one of them to hold out. Put a NAME.txt beside "
            "each picture, or a metadata.jsonl with file_name and text."
        )
    said = [f"{len(bare)} pictures have no caption and are left out."] if bare else []
    return Pairs(ordered[count:], ordered[:count], found.unfit, said)


def gathered(source: str, side: int) -> Gathered:
    """The photos of a source with the captions it has."""
    folder = unpacked(source)
    found = photos.gather(folder, side)
    inside = sources.unpacked(folder)[0] if folder.suffix.lower() == ".zip" else folder
    told = listed(inside) if inside.is_dir() else {}
    return Gathered(
        [replace(p, caption=told.get(p.path.name, p.caption)) for p in found.photos], found.unfit, found.warnings
    )


def listed(folder: Path) -> dict[str, str]:
    """The captions in a folder's metadata.jsonl, by file name.

    Raises:
        PhotosError: a line is not one of JSON with a file's name and its text.
    """
    file, found = folder / "metadata.jsonl", dict[str, str]()
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = dict(json.loads(line)) if line.strip() else {}
            if row:
                found[Path(str(first(row, FILES))).name] = str(first(row, CAPTIONS))
        except (ValueError, TypeError, KeyError):
            raise PhotosError(
                f'{file}, line {number}, is not {{"file_name": ..., "text": ...}}. Mend that line, or remove the file.'
            ) from None
    return found


def first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The value under the first of these names that a row has.

    Raises:
        KeyError: it has none of them.
    """
    for name in names:
        if name in row:
            return row[name]
    raise KeyError(next(iter(names)))


def unpacked(source: str) -> Path:
    """A folder of pictures with captions beside them; shards and datasets are unpacked into the cache, once."""
    path = Path(source)
    shards = sorted(p for p in path.iterdir() if p.suffix in SHARDS) if path.is_dir() else []
    if path.suffix in SHARDS and path.is_file():
        shards = [path]
    if shards:
        marks = "".join(f"{p.resolve()} {p.stat().st_size} {p.stat().st_mtime_ns}\n" for p in shards)
        return written(source, marks, (row for shard in shards for row in rows(shard)))
    if not path.exists() and source.count("/") == 1 and not source.startswith((".", "/")):
        return written(source, f"dataset {source}", of_dataset(source))
    return path


def rows(shard: Path) -> Iterator[tuple[bytes, str]]:
    """Pictures and captions of a shard, one by one."""
    try:
        yield from (of_tar if shard.suffix == ".tar" else of_parquet)(shard)
    except (tarfile.TarError, OSError, ValueError, TypeError) as error:
        raise PhotosError(f"{shard} cannot be read: {error}. Make it again, or leave it out.") from None


def of_tar(shard: Path) -> Iterator[tuple[bytes, str]]:
    """A WebDataset shard: members of one stem belong together, and follow one another."""
    stem, image, text = "", b"", ""
    with tarfile.open(shard, "r|") as members:
        for member in members:
            name = Path(member.name)
            if not member.isfile() or member.size > MOST_BYTES:
                continue
            if str(name.with_suffix("")) != stem and image and text:
                yield image, text
            if str(name.with_suffix("")) != stem:
                stem, image, text = str(name.with_suffix("")), b"", ""
            content = (members.extractfile(member) or io.BytesIO()).read()
            if name.suffix.lower() in EXTENSIONS:
                image = content
            elif name.suffix in (".txt", ".caption"):
                text = content.decode("utf-8", "replace")
            elif name.suffix == ".json":  # which may tell anything else as well, or only that
                row = dict(json.loads(content))
                text = text or str(next((row[key] for key in CAPTIONS if row.get(key)), ""))
    if image and text:
        yield image, text


def of_parquet(shard: Path) -> Iterator[tuple[bytes, str]]:
    """A Parquet file with a column of captions and one of images: bytes, or bytes and path as `datasets` writes them."""
    table = library("pyarrow.parquet", "This source", *EXTRA).ParquetFile(shard)
    for batch in table.iter_batches(64):
        for row in batch.to_pylist():
            content = inside(next((row[name] for name in IMAGES if name in row), None), shard)
            if not isinstance(content, bytes) or not any(name in row for name in CAPTIONS):
                raise PhotosError(unnamed(str(shard), row))
            yield content, str(first(row, CAPTIONS))


def inside(cell: Any, shard: Path) -> Any:
    """What is in the image cell of a table: bytes, which `datasets` writes beside a path, or leaves to the file at that path.

    Raises:
        PhotosError: there is a path alone, and no file there.
    """
    if not isinstance(cell, dict) or cell.get("bytes") or not cell.get("path"):
        return cell.get("bytes") if isinstance(cell, dict) else cell
    home = shard.parent.resolve()
    file = (home / str(cell["path"])).resolve()  # which is the path itself where that is absolute
    if not file.is_relative_to(home) or not file.is_file():  # a table from elsewhere has no business with other files
        raise PhotosError(
            f"{shard} holds only the path of a picture, {cell['path']}, and there is no such file in its folder. Put the pictures "
            "beside it, or write the table with them in it (push_to_hub of `datasets` does)."
        )
    return file.read_bytes()


def of_dataset(name: str) -> Iterator[tuple[bytes, str]]:
    """A dataset's training split, streamed."""
    try:
        purpose = f"There is no folder {name} here, and to load a dataset of that id"
        found = library("datasets", purpose, *EXTRA).load_dataset(name, split="train", streaming=True)
    except (OSError, ValueError, ConnectionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PhotosError(
            f"The dataset {name} cannot be loaded: {reason}. Give a folder, .tar, .parquet or a dataset's id."
        ) from None
    for row in found:
        content = io.BytesIO()
        try:
            image, text = first(row, IMAGES), str(first(row, CAPTIONS))
        except KeyError:
            raise PhotosError(unnamed(f"The dataset {name}", row)) from None
        image.convert("RGB").save(content, "PNG")
        yield content.getvalue(), text


def unnamed(source: str, row: Mapping[str, Any]) -> str:
    """The complaint about a table whose columns are called something else."""
    return (
        f"{source} has the columns {', '.join(map(str, row))}; an image ({', '.join(IMAGES)}) and a text ({', '.join(CAPTIONS)}) "
        "are needed. Rename them so."
    )


def written(source: str, marks: str, found: Iterable[tuple[bytes, str]]) -> Path:
    """A folder in the cache with these pictures and captions; it appears only once it is whole.

    Raises:
        PhotosError: there is no pair.
    """
    folder = cache_folder() / "pairs" / hashlib.sha256(marks.encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as partial:
        inside = Path(partial) / "inside"
        inside.mkdir()
        for number, (image, text) in enumerate(found):
            (inside / f"{number:07d}{ending(image)}").write_bytes(image)
            (inside / f"{number:07d}.txt").write_text(text, "utf-8")
        if not any(inside.iterdir()):
            raise PhotosError(
                f"{source} has no picture with a caption beside it (a .txt, or one of {', '.join(CAPTIONS)} in a .json of the same "
                "name). Add captions, or give another source."
            )
        inside.rename(folder)
    return folder


def ending(image: bytes) -> str:
    """The ending of a picture's bytes."""
    return ".png" if image.startswith(b"\x89PNG") else ".webp" if image[8:12] == b"WEBP" else ".jpg"
