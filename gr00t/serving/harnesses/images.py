"""From what a harness calls an image to the frame that a policy takes: (H, W, 3) uint8."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.serving.endpoints import RequestError
from gr00t.serving.wires.array_maps import EncodedImage

# A file of a kilobyte may say that it holds a thousand times as many pixels.
_MAX_PIXELS = 4096 * 4096
# What costs much more time than bytes, and how much of it is accepted. A scan of a JPEG may be twelve bytes
# and goes over all pixels; Pillow writes ten. A profile of a PNG may be a kilobyte and is unpacked to a
# megabyte; there is one at most, and the word may stand among the pixels by chance.
_COSTLY = {"jpeg": ("scans", b"\xff\xda", 20), "png": ("colour profiles", b"iCCP", 4)}
_FORMATS = {"png": "PNG", "jpeg": "JPEG"}


def frame_of(key: str, image: Any) -> NDArray[np.uint8]:
    """Return an image as a frame.

    Args:
        key: Its name, for errors.
        image: An EncodedImage or an array: (H, W, 3) or (3, H, W), of uint8 or of numbers from 0 to 1.

    Raises:
        RequestError: It is none.
    """
    if isinstance(image, EncodedImage):
        return _decoded(key, image)
    if not isinstance(image, np.ndarray):
        raise RequestError(f"{key}: expected an image, got {type(image).__name__}")
    if image.ndim == 3 and image.shape[0] == 3 and image.shape[2] != 3:
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] != 3:
        raise RequestError(f"{key}: expected shape (H, W, 3), got {image.shape}")
    if image.dtype.kind == "f":
        if not (np.isfinite(image).all() and image.min(initial=0) >= 0 and image.max(initial=0) <= 1):
            raise RequestError(f"{key}: expected {image.dtype} numbers from 0 to 1, or uint8")
        image = (255 * image).astype(np.uint8)
    if image.dtype != np.uint8:
        raise RequestError(f"{key}: expected uint8, got {image.dtype}")
    return np.ascontiguousarray(image)


def _decoded(key: str, image: EncodedImage) -> NDArray[np.uint8]:
    from PIL import Image

    what, mark, most = _COSTLY[image.form]
    if (count := image.data.count(mark)) > most:
        raise RequestError(f"{key}: a {image.form} of {count} {what}; at most {most} are accepted")
    try:
        opened = Image.open(io.BytesIO(image.data), formats=[_FORMATS[image.form]])
        # What the file says of itself, before a pixel is decoded.
        width, height = opened.size
        if (height, width, 3) != image.shape or opened.mode != "RGB" or width * height > _MAX_PIXELS:
            raise RequestError(
                f"{key}: a {image.form} of {width}x{height} pixels in {opened.mode}, announced as "
                f"{image.shape!r:.100}; expected RGB of at most {_MAX_PIXELS} pixels"
            )
        return np.asarray(opened).copy()
    except RequestError:
        raise
    # The library has bounds of its own, above ours, and warns or raises before it tells a size.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RequestError(f"{key}: {error}; at most {_MAX_PIXELS} pixels are accepted") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise RequestError(f"{key}: a {image.form} that cannot be read: {error!r:.200}") from None
