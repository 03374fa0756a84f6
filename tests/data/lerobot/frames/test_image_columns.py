"""Cameras whose frames are in the rows. Oracle: the pictures that were put there, pixel for pixel."""

from __future__ import annotations

import errno
import io
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.check import find_faults
from gr00t.data.lerobot.frames import image_columns
from gr00t.data.lerobot.meta.faults import DatasetError
from tests.data.lerobot.lerobot_sets import CAMERA, as_v3, opened, refusal, samples, set_info, table, written

FRAMES = np.random.default_rng(0).integers(0, 256, (7, 6, 8, 3), dtype=np.uint8)


def encoded(frame: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, kind)
    return file.getvalue()


def claiming(side: int) -> bytes:
    """A small PNG whose header says that it is `side` x `side`."""
    content = encoded(FRAMES[0])
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def set_images(folder: Path, rows: list[Any], episode: int) -> None:
    content = pq.read_table(table(folder, episode))
    content = content.drop_columns([CAMERA]) if CAMERA in content.column_names else content
    pq.write_table(content.append_column(CAMERA, pa.array(rows)), table(folder, episode))


def rows_of(frames: np.ndarray) -> list[dict[str, Any]]:
    return [{"bytes": encoded(frame), "path": f"frame-{n:06d}.png"} for n, frame in enumerate(frames)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of 3 and 4 rows."""
    folder = written(tmp_path_factory.mktemp("sets") / "set", 3, 4)
    set_images(folder, rows_of(FRAMES[:3]), 0)
    set_images(folder, rows_of(FRAMES[3:]), 1)
    feature = {"dtype": "image", "shape": [6, 8, 3], "names": ["height", "width", "channel"]}
    set_info(folder, features={CAMERA: feature})
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "set")


def test_rows_show_their_own_image_in_both_layouts(folder: Path) -> None:
    # A row needs no time stamp for that, nor a video.
    assert np.array_equal(samples(folder)["video.image"][:, 0], FRAMES)
    assert np.array_equal(samples(as_v3(folder, folder.parent / "v3"))["video.image"][:, 0], FRAMES)
    shutil.rmtree(folder / "videos")
    for episode in (0, 1):
        pq.write_table(
            pq.read_table(table(folder, episode)).drop_columns(["timestamp"]), table(folder, episode)
        )
    dataset = opened(folder)
    assert np.array_equal(dataset.batch([5, 0])["video.image"][:, 0], FRAMES[[5, 0]])
    assert dataset.metadata(EmbodimentTag.NEW_EMBODIMENT).modalities.video["image"].resolution == (8, 6)


def test_images_are_copied_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = samples(folder)["video.image"]
    monkeypatch.setattr(image_columns, "_copy", lambda *_: pytest.fail("copied again"))
    assert np.array_equal(samples(folder)["video.image"], first)
    monkeypatch.undo()
    for suffix in ("bin", "npz"):  # a damaged copy is none
        (kept,) = (folder.parent / "cache").glob(f"images-*.{suffix}")
        kept.write_bytes(kept.read_bytes()[:-60])
        assert np.array_equal(samples(folder)["video.image"], first)


def test_files_that_rows_name_jpeg_and_grey_ones(folder: Path) -> None:
    Image.fromarray(FRAMES[3]).save(folder / "frame.png")
    rows = [{"bytes": None, "path": "frame.png"}, *rows_of(FRAMES[4:])]
    rows[1]["bytes"] = encoded(np.full((6, 8, 3), 90, np.uint8), "JPEG")
    rows[2]["bytes"] = encoded(FRAMES[5, :, :, 0])
    set_images(folder, rows, 1)
    read = samples(folder)["video.image"][3:, 0]
    assert np.array_equal(read[0], FRAMES[3])
    assert np.array_equal(read[1], np.full((6, 8, 3), 90))
    assert np.array_equal(read[2], np.repeat(FRAMES[5, :, :, :1], 3, axis=2))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"bytes": b"no image", "path": ""},
            "row 2: is not a PNG, JPEG or WebP image: cannot identify image file",
        ),
        (
            {"bytes": claiming(65536), "path": ""},
            "row 2: is not a PNG, JPEG or WebP image: Image size (4294967296 pixels) exceeds limit",
        ),
        ({"bytes": None, "path": "gone.png"}, "row 2: the image is not in the row, and "),
        ({"bytes": None, "path": None}, "row 2: expected an image, got {'bytes': None, 'path': None}"),
        ({"bytes": encoded(FRAMES[0, :4]), "path": ""}, "row 2: is 8x4, those before are 8x6"),
        (
            {"bytes": encoded(np.zeros((6, 8), np.uint16)), "path": ""},
            "row 2: an image of mode I;16, which is no colour picture",
        ),
    ],
)
def test_rows_without_an_image_are_named(folder: Path, row: dict[str, Any], problem: str) -> None:
    set_images(folder, [*rows_of(FRAMES[3:5]), row, *rows_of(FRAMES[6:])], 1)
    assert f"{table(folder, 1)}: {CAMERA}: {problem}" in refusal(folder)
    assert not list((folder.parent / "cache").glob("images-*"))
    (fault,) = find_faults(folder)
    assert problem in str(fault)


def test_pictures_stand_as_their_exif_says(folder: Path) -> None:
    # 6: the camera was held a quarter to the left. Oracle: LeRobot's datasets turn them by Pillow's rule.
    def lying(frame: np.ndarray) -> dict[str, Any]:
        exif = Image.Exif()
        exif[0x0112] = 6
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(np.rot90(frame))).save(file, "PNG", exif=exif)
        return {"bytes": file.getvalue(), "path": None}

    set_images(folder, [lying(FRAMES[0]), *rows_of(FRAMES[1:3])], 0)
    np.testing.assert_array_equal(samples(folder)["video.image"][:3, 0], FRAMES[:3])


def test_damage_within_an_image_is_named(folder: Path) -> None:
    damaged = bytearray(encoded(FRAMES[5]))
    place = damaged.index(b"IDAT")
    damaged[place + 8 : place + 20] = bytes(12)
    set_images(
        folder, [*rows_of(FRAMES[3:5]), {"bytes": bytes(damaged), "path": ""}, *rows_of(FRAMES[6:])], 1
    )
    dataset = opened(folder)
    assert np.array_equal(dataset.batch([0])["video.image"][:, 0], FRAMES[:1])
    with pytest.raises(DatasetError, match="image 5 cannot be decoded"):
        dataset.batch([5])


def test_a_disk_that_cannot_be_read_is_named_with_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = opened(folder)

    def refuse(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(DatasetError, match=r"images-\w{16}\.bin: cannot be read: Input/output error"):
        dataset.batch([0])


def test_a_full_disk_is_told_before_anything_is_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    cache = folder.parent / "cache"
    assert refusal(folder).startswith(
        f"{cache}: the images of {CAMERA} take up to 0.0 MB in {cache}, where 0.0 MB"
    )
