"""What the cameras of a data set gave: their files, and single frames of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gr00t.cli.inspection.reading import Readable
from gr00t.data.lerobot.frames.image_columns import DAMAGED, decoded
from gr00t.data.lerobot.frames.video_files import open_video
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, error_of
from gr00t.data.lerobot.meta.features import is_image


def describe_cameras(readable: Readable, faults: list[Fault]) -> dict[str, dict[str, Any]]:
    """Feature, resolution, codec and size of every camera that can be read.

    Args:
        readable: the data set.
        faults: gets files that differ from the others of their camera, which no reader joins.
    """
    cameras = {}
    for key, feature in readable.layout.modality.cameras.items():
        if is_image(readable.layout.features, feature):
            cameras[key] = {"feature": feature, **_describe_images(readable, key)}
        elif key in readable.frame_of_row:
            cameras[key] = {"feature": feature, **_describe_videos(readable, key, faults)}
    return cameras


def frame_of(readable: Readable, key: str, row: int) -> NDArray[np.uint8]:
    """What a camera shows to a row, counted over all episodes: (H, W, 3).

    Raises:
        DatasetError: the frame cannot be decoded.
    """
    if key in readable.frame_of_row:
        frame: NDArray[np.uint8]
        (frame,) = readable.frames(key).at(readable.frame_of_row[key][row][None])
        return frame
    number, within = readable.episode_of(row)
    place = readable.places[number]
    return _image_in(readable, readable.layout.modality.cameras[key], place.path, int(place.rows[within]))


def _describe_videos(readable: Readable, key: str, faults: list[Fault]) -> dict[str, Any]:
    videos = readable.layout.videos(key)
    kinds: Counter[tuple[int, int, str, str]] = Counter()
    rates: Counter[float] = Counter()
    for path in videos:
        with open_video(path) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            kind = (context.width, context.height, context.name, context.pix_fmt or "")
            rates[round(float(stream.average_rate or 0), 3)] += 1
        size = next(iter(kinds), kind)[:2]
        if kind[:2] != size:
            what = f"frames of {kind[0]}x{kind[1]}, those of the camera's first video are {size[0]}x{size[1]}"
            faults.append(Fault(path, what, key))
        kinds[kind] += 1
    (width, height, codec, pixels), _ = kinds.most_common(1)[0]
    try:
        height, width, _ = readable.frames(key).shape  # turned as they are to be seen
    except DatasetError as error:
        faults.extend(error.faults)
    return {
        "width": width,
        "height": height,
        "codec": _CODECS.get(codec, codec),
        "pixel_format": pixels,
        "fps": rates.most_common(1)[0][0],
        "files": len(videos),
        "frames": sum(map(len, readable.times(videos))),
        "bytes": sum(path.stat().st_size for path in videos),
    }


# By their decoders' names, to those of the formats.
_CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx-vp9": "vp9"}


def _describe_images(readable: Readable, key: str) -> dict[str, Any]:
    height, width = frame_of(readable, key, 0).shape[:2]
    rows = sum(episode.length for episode in readable.layout.episodes)
    files = list(dict.fromkeys(place.path for place in readable.places))
    return {
        "width": width,
        "height": height,
        "codec": "images in the rows",
        "pixel_format": "",
        "fps": readable.layout.fps,
        "files": len(files),
        "frames": rows,
        "bytes": sum(path.stat().st_size for path in files),
    }


def _image_in(readable: Readable, feature: str, path: Path, row: int) -> NDArray[np.uint8]:
    try:
        value = pq.read_table(path.absolute(), columns=[feature]).column(0)[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            content = (readable.layout.folder / str(value["path"])).read_bytes()
        return decoded(content)
    except (pa.ArrowException, KeyError, TypeError, *DAMAGED) as error:
        raise error_of(Fault(path, f"{feature}: image of row {row} cannot be decoded: {error}")) from error
