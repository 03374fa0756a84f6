"""Cameras whose frames are in the rows themselves, as PNG or JPEG: LeRobot's `dtype: image`.

A parquet file is compressed by groups of rows, so a single row cannot be read from it cheaply. The images of
a camera are therefore copied once, as they are, into one file of the cache, and decoded when needed.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from gr00t.data.lerobot.frames.cache_files import written_as_a_whole
from gr00t.data.lerobot.frames.camera_frames import CameraFrames
from gr00t.data.lerobot.meta.faults import Fault, error_of, raise_faults
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.rows.tables import Place

logger = logging.getLogger(__name__)

_BATCH = 64  # rows read at a time
# What a camera sees; others, 16-bit depth for one, would lose their meaning when they become colours.
_PICTURES = ("RGB", "RGBA", "L", "LA", "P", "CMYK", "YCbCr")
_FORMATS = ("PNG", "JPEG", "WEBP")
# Of how a picture is to be turned, those that make it stand on its side.
_ON_ITS_SIDE = (5, 6, 7, 8)
# What Pillow raises for images that are damaged, SyntaxError for a PNG of wrong checksums.
DAMAGED = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class ImageFrames(CameraFrames):
    """Images that are decoded when they are needed.

    Args:
        tables: the parquet files that they are from.
        ends: behind the last byte of each image, per file.
        path: of the file with all images, one after the other.
        shape: height, width and channels of each.
        step: seconds between rows.
    """

    def __init__(
        self,
        tables: Sequence[Path],
        ends: Sequence[NDArray[np.int64]],
        path: Path,
        shape: tuple[int, int, int],
        step: float,
    ) -> None:
        super().__init__(tables, [np.arange(len(each), dtype=np.float64) * step for each in ends], shape)
        self._bounds = np.concatenate([[0], *ends])
        self._path = path
        self._file = path.open("rb")

    def _read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        frames = np.empty((len(numbers), *self.shape), dtype=np.uint8)
        for frame, number in zip(frames, numbers.tolist(), strict=True):
            first, behind = self._bounds[number : number + 2].tolist()
            try:
                content = os.pread(self._file.fileno(), behind - first, first)
            except OSError as error:
                raise error_of(Fault(self._path, f"cannot be read: {error.strerror}")) from error
            try:
                frame[...] = decoded(content)
            except DAMAGED as error:
                raise error_of(Fault(self._path, f"image {number} cannot be decoded: {error}")) from error
        return frames


def open_images(
    layout: Layout, feature: str, places: Sequence[Place], cache: Path
) -> tuple[ImageFrames, NDArray[np.int64]]:
    """Return the images of a camera, and the one that each row sees, (N,).

    Args:
        layout: of the data set.
        feature: the camera's column.
        places: of the rows, per episode.
        cache: folder for the copy; it takes what the images take.

    Raises:
        DatasetError: rows have no image, or images differ in size; or the copy cannot be written.
    """
    tables = list(dict.fromkeys(place.path for place in places))
    name = _name(tables, feature)
    path, index = cache / f"{name}.bin", cache / f"{name}.npz"
    stored = _stored(path, index)
    if stored is None:
        try:
            _copy(layout, feature, tables, path, index)
        except OSError as error:
            raise error_of(Fault(cache, f"images cannot be copied: {error.strerror}")) from error
        stored = _stored(path, index)
    if stored is None:
        raise error_of(Fault(path, "was changed while it was written", helps="start again"))
    counts, ends, shape = stored
    frames = ImageFrames(tables, np.split(ends, np.cumsum(counts)[:-1]), path, shape, 1 / layout.fps)
    firsts = dict(zip(tables, np.cumsum([0, *counts]).tolist(), strict=False))
    return frames, np.concatenate([firsts[place.path] + place.rows for place in places])


def image_faults(layout: Layout, feature: str, tables: Sequence[Path]) -> list[Fault]:
    """What is wrong with the images of a camera, by their headers."""
    faults: list[Fault] = []
    for _ in _images(layout, feature, tables, faults):
        pass
    return faults


def _stored(
    path: Path, index: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int, int]] | None:
    """Images per file, the end of each, and their shape; None where there is no copy, or a damaged one."""
    if not (path.is_file() and index.is_file()):
        return None
    try:
        with np.load(index) as stored:
            counts, ends, shape = stored["counts"], stored["ends"], stored["shape"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s: damaged, made anew: %s", index, error)
        return None
    if counts.sum() != len(ends) or not len(ends) or path.stat().st_size != ends[-1]:
        logger.warning("%s: does not fit %s, made anew", path, index.name)
        return None
    height, width, channels = shape.tolist()
    return counts, ends, (height, width, channels)


def _copy(layout: Layout, feature: str, tables: Sequence[Path], path: Path, index: Path) -> None:
    needed = sum(table.stat().st_size for table in tables)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    told = f"the images of {feature} take up to {needed / 1e6:.1f} MB in {path.parent}"
    if needed > free:
        fault = Fault(path.parent, f"{told}, where {free / 1e6:.1f} MB are free")
        raise error_of(Fault(fault.file, fault.what, helps="name a folder on another disk with --cache"))
    logger.info("%s: %s, copied once", layout.folder, told)
    faults: list[Fault] = []
    counts = dict.fromkeys(tables, 0)
    ends: list[int] = []
    shape = (0, 0, 3)
    with written_as_a_whole(path) as file:
        for table, content, size in _images(layout, feature, tables, faults):
            file.write(content)
            ends.append((ends[-1] if ends else 0) + len(content))
            counts[table] += 1
            shape = (*size, 3)
        raise_faults(layout.folder, faults)
    with written_as_a_whole(index) as file:
        np.savez(file, counts=list(counts.values()), ends=np.asarray(ends, np.int64), shape=shape)


def _images(
    layout: Layout, feature: str, tables: Sequence[Path], faults: list[Fault]
) -> Iterator[tuple[Path, bytes, tuple[int, int]]]:
    """File, bytes, height and width of each image; a fault for the first row of a file that has none."""
    usual: tuple[int, int] | None = None
    for table in tables:
        number = 0
        try:
            with pq.ParquetFile(table.absolute()) as file:
                if feature not in file.schema_arrow.names:
                    there = ", ".join(file.schema_arrow.names)
                    raise _NoImageError(f"no column {feature!r}; it has {there}")
                for batch in file.iter_batches(_BATCH, columns=[feature]):
                    for row in batch.column(0).to_pylist():
                        content = _content(row, layout.folder)
                        size = _size(content)
                        usual = usual or size
                        if size != usual:
                            raise _NoImageError(
                                f"is {size[1]}x{size[0]}, those before are {usual[1]}x{usual[0]}"
                            )
                        yield table, content, size
                        number += 1
        except _NoImageError as error:
            faults.append(Fault(table, f"{feature}: row {number}: {error}"))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            faults.append(Fault(table, f"cannot be read as parquet: {error}", helps="download it again"))


class _NoImageError(ValueError):
    """A row without an image that can be used; the message says why."""


def _content(row: Any, folder: Path) -> bytes:
    """The encoded image of a row: in it, or in a file of the set that it names."""
    found = row.get("bytes") if isinstance(row, dict) else row
    if isinstance(found, bytes):
        return found
    path = row.get("path") if isinstance(row, dict) else None
    if not isinstance(path, str):
        raise _NoImageError(f"expected an image, got {row!r}")
    if not (folder / path).is_file():
        raise _NoImageError(f"the image is not in the row, and {folder / path} is not there")
    return (folder / path).read_bytes()


def _size(content: bytes) -> tuple[int, int]:
    """Height and width, by the header."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            mode, size = image.mode, (image.height, image.width)
            # Of a PNG without it, all pixels would be decoded in search of it.
            if "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE:
                size = size[::-1]
    except DAMAGED as error:
        raise _NoImageError(f"is not a PNG, JPEG or WebP image: {error}") from error
    if mode not in _PICTURES:
        raise _NoImageError(f"an image of mode {mode}, which is no colour picture")
    return size


def decoded(content: bytes) -> NDArray[np.uint8]:
    """An image (H, W, 3), turned as its EXIF says, as LeRobot's own reader does.

    Raises:
        OSError, ValueError, SyntaxError, DecompressionBombError: what Pillow raises of damaged ones.
    """
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _name(tables: Sequence[Path], feature: str) -> str:
    """A name that changes with the files."""
    digest = hashlib.sha256(feature.encode())
    for path in tables:
        state = path.stat()
        digest.update(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"images-{digest.hexdigest()[:16]}"
