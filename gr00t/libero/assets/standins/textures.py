"""Images of our own for floors, walls and tables: something for the eye to measure distances by."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gr00t.libero.assets.standins.scenes import (
    BROWN_WOOD,
    CERAMIC_FLOOR,
    DARK_WOOD,
    GREY_FLOOR,
    LIGHT_WOOD,
    LINEN,
    PLANK_FLOOR,
    PLASTER,
)


def texture_files() -> dict[str, bytes]:
    """PNG images by their path in the assets folder."""
    plain = np.ones((8, 8, 1))
    images = {
        GREY_FLOOR: planks((196, 190, 182), seam=232),
        CERAMIC_FLOOR: planks((150, 150, 148), seam=120),
        PLANK_FLOOR: planks((150, 110, 76), seam=90),
        PLASTER: plain * (226, 226, 224),
        LINEN: plain * (214, 204, 172),
        LIGHT_WOOD: grain((206, 184, 156), contrast=0.05),
        DARK_WOOD: grain((86, 58, 46), contrast=0.16),
        BROWN_WOOD: grain((150, 104, 50), contrast=0.10),
    }
    return {name: _png(image) for name, image in images.items()}


def planks(rgb: tuple[int, int, int], seam: int) -> NDArray[np.float64]:
    """Four planks of slightly different tone with seams between them, (256, 256, 3)."""
    side, count = 256, 4
    height = side // count
    tone = np.ones((side, side, 1))
    seams = np.zeros((side, side), bool)
    for row, shade in enumerate((1.0, 0.96, 1.02, 0.975)):
        tone[row * height : (row + 1) * height] = shade
        seams[row * height : row * height + 2] = True
        start = row * 2 % count * height + row * 16
        seams[row * height : (row + 1) * height, start : start + 2] = True
    row, column = np.mgrid[0:side, 0:side] / side
    fibres = sum(
        np.sin(2 * np.pi * (count * row + 0.5 * np.sin(2 * np.pi * column))) for count in (23, 37, 61)
    )
    image = tone * rgb * (1 + 0.012 * fibres[..., None])
    image[seams] = np.array(rgb) + (seam - rgb[0])
    return image


def grain(rgb: tuple[int, int, int], contrast: float) -> NDArray[np.float64]:
    """Wavy fibres along the rows, (128, 128, 3); a few sines, so that every machine draws the same image."""
    row, column = np.mgrid[0:128, 0:128] / 128
    bend = row + 0.03 * np.sin(2 * np.pi * column) + 0.01 * np.sin(6 * np.pi * column + 1)
    waves = sum(np.sin(2 * np.pi * count * bend + count) / 4 for count in (5, 11, 19, 31))
    return np.asarray((1 + contrast * waves)[..., None] * rgb)


def _png(image: NDArray[np.float64]) -> bytes:
    # Stored, not deflated: the bytes, and with them the fingerprint, do not depend on the zlib at hand.
    stream = io.BytesIO()
    pixels = np.clip(np.round(image), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()
