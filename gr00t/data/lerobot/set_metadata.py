"""What a data set says of all its keys: shapes by its descriptions, statistics by meta/stats.json or rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gr00t.data.dataset import ModalityConfig
from gr00t.data.embodiment_tags import EmbodimentTag
from gr00t.data.lerobot.described import describe_set, statistical_values
from gr00t.data.lerobot.frames.video_files import first_shape
from gr00t.data.lerobot.meta.faults import DatasetError, Fault, raise_faults
from gr00t.data.lerobot.meta.layout import Layout
from gr00t.data.lerobot.meta.meta_files import read_object
from gr00t.data.lerobot.rows.contents import read_contents
from gr00t.data.schema import DatasetMetadata, DatasetStatisticalValues, VideoMetadata, problems_of

STATS = Path("meta/stats.json")


def metadata_of_set(layout: Layout, embodiment_tag: EmbodimentTag) -> DatasetMetadata:
    """Describe every state, action and camera that the set has, whatever a data configuration wants.

    As in Isaac-GR00T N1.5, meta/stats.json is believed where it has all that is needed; it may be of a larger
    set. Otherwise the statistics are computed, and nothing is written.

    Raises:
        DatasetError: something cannot be read, or contradicts itself.
    """
    modality = layout.modality
    statistics = _stored_statistics(layout) or _computed_statistics(layout)
    cameras = {key: _camera(layout, key) for key in modality.cameras}
    return describe_set(layout.folder, modality.columns, statistics, cameras, embodiment_tag)


def _stored_statistics(layout: Layout) -> dict[str, DatasetStatisticalValues] | None:
    """What meta/stats.json says of each key; None where there is none, or it lacks something."""
    path = layout.folder / STATS
    if not path.is_file():
        return None
    faults: list[Fault] = []
    content = read_object(path, layout.folder, faults) or {}
    raise_faults(layout.folder, faults)
    found = {}
    for key, column in layout.modality.columns.items():
        given = content.get(column.original_key)
        if not isinstance(given, Mapping):
            return None
        lists: dict[str, Any] = {name: given.get(name) for name in DatasetStatisticalValues.model_fields}
        if not all(isinstance(values, list) and len(values) >= column.end for values in lists.values()):
            return None
        try:
            found[key] = DatasetStatisticalValues(
                **{name: values[column.start : column.end] for name, values in lists.items()}
            )
        except ValidationError as error:
            raise DatasetError(f"{path}: {'; '.join(problems_of(error, column.original_key))}") from error
    return found


def _computed_statistics(layout: Layout) -> dict[str, DatasetStatisticalValues]:
    everything = {
        kind: ModalityConfig(
            delta_indices=[0],
            modality_keys=[key for key in layout.modality.columns if key.startswith(f"{kind}.")],
        )
        for kind in ("state", "action")
    }
    faults: list[Fault] = []
    contents = read_contents(layout, everything, faults)
    raise_faults(layout.folder, faults)
    assert contents is not None, "what keeps rows from being read is a fault"
    return {key: statistical_values(values) for key, values in contents.numbers.items()}


def _camera(layout: Layout, key: str) -> VideoMetadata:
    """By its description; by its first frame where that says too little."""
    described = layout.features.get(layout.modality.cameras[key])
    feature = described if isinstance(described, Mapping) else {}
    shape = _described_shape(feature)
    if shape is None:
        files = layout.videos(key)
        if not files:
            raise DatasetError(f"{layout.folder}: {key}: info.json does not say how large its images are")
        shape = first_shape(files[0])
    told = [info for name in ("video_info", "info") if isinstance(info := feature.get(name), Mapping)]
    fps = next((info["video.fps"] for info in told if "video.fps" in info), layout.fps)
    height, width, channels = shape
    return VideoMetadata(resolution=(width, height), channels=channels, fps=fps)


def _described_shape(feature: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Height, width and channels."""
    shape, names = feature.get("shape"), feature.get("names")
    if not (isinstance(shape, list) and isinstance(names, list) and len(shape) == len(names) == 3):
        return None
    sides = dict(zip([str(name).removesuffix("s") for name in names], shape, strict=True))
    if not all(isinstance(sides.get(name), int) for name in ("height", "width", "channel")):
        return None
    return sides["height"], sides["width"], sides["channel"]
