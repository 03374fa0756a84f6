"""Images of harnesses. Oracle: Pillow's own reading of them, and the PNG specification's header."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from gr00t.serving.endpoints import RequestError
from gr00t.serving.harnesses.images import frame_of
from gr00t.serving.wires.array_maps import EncodedImage


def file_of(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claiming(width: int, height: int) -> bytes:
    """A file of 90 bytes that says of itself to be as large as that."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [224, 256, 480])
def test_frames_of_any_size_as_they_are(size: int) -> None:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size + 1, 3), np.uint8)
    sent = EncodedImage("png", file_of(pixels), pixels.shape)
    np.testing.assert_array_equal(frame_of("x", sent), pixels)
    np.testing.assert_array_equal(frame_of("x", pixels / 255.0), (255 * (pixels / 255.0)).astype(np.uint8))
    assert frame_of("x", EncodedImage("jpeg", file_of(pixels, "JPEG"), pixels.shape)).shape == pixels.shape


@pytest.mark.parametrize("action", ["ignore", "error"])  # of the library's warning at half of its bound
@pytest.mark.parametrize("side", [4097, 9_600, 14_000, 60_000])
def test_the_pixels_that_a_file_claims_are_bounded_before_any_is_decoded(side: int, action: str) -> None:
    sent = EncodedImage("png", claiming(side, side), (side, side, 3))
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="at most 16777216 pixels"):
            frame_of("x", sent)


def test_a_jpeg_goes_over_its_pixels_a_few_times_only() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(opened)
    np.testing.assert_array_equal(frame_of("x", EncodedImage("jpeg", data, pixels.shape)), wanted)
    last = data[data.rindex(b"\xff\xda") : -2]
    scanned = data[:-2] + 1000 * last + data[-2:]
    with pytest.raises(RequestError, match="x: a jpeg of 1010 scans; at most 20 are accepted"):
        frame_of("x", EncodedImage("jpeg", scanned, pixels.shape))


def test_a_png_has_few_colour_profiles() -> None:
    pixels = np.zeros((8, 9, 3), np.uint8)
    data = file_of(pixels)
    profile = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1_000_000)))
    one = data[:33] + profile + data[33:]
    np.testing.assert_array_equal(frame_of("x", EncodedImage("png", one, pixels.shape)), pixels)
    many = data[:33] + 100 * profile + data[33:]
    with pytest.raises(RequestError, match="x: a png of 100 colour profiles; at most 4 are accepted"):
        frame_of("x", EncodedImage("png", many, pixels.shape))


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.zeros((8, 8), np.uint8), "L"),
        (np.zeros((8, 8, 4), np.uint8), "RGBA"),
        (np.zeros((8, 8), np.uint16), "I;16"),
    ],
)
def test_what_is_not_rgb_is_named(pixels: np.ndarray, mode: str) -> None:
    with pytest.raises(RequestError, match=f"8x8 pixels in {mode}, announced as .* expected RGB"):
        frame_of("x", EncodedImage("png", file_of(pixels), (8, 8, 3)))


def test_an_end_in_the_middle() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = file_of(pixels)
    for length in range(0, len(data) - 20, 97):
        with pytest.raises(RequestError, match="cannot be read"):
            frame_of("x", EncodedImage("png", data[:length], pixels.shape))
