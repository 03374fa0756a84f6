"""Everything that is wrong with a data set, without training on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.frames.image_columns import image_faults
from gr00t.data.lerobot.frames.video_files import all_frame_times
from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.features import TASK_INDEX, is_image
from gr00t.data.lerobot.meta.layout import Layout, read_layout
from gr00t.data.lerobot.rows.contents import keys_of
from gr00t.data.lerobot.rows.opened import OpenedSet, TimesOf, open_set

__all__ = ["Examined", "Fault", "all_keys", "examine", "find_faults"]


@dataclass(frozen=True)
class Examined:
    """What was found in a folder.

    Attributes:
        faults: everything that keeps it from being read.
        layout: its descriptions, as far as they can be read.
        opened: its contents; None where there is a fault.
    """

    faults: list[Fault]
    layout: Layout | None
    opened: OpenedSet | None


def find_faults(folder: Path, modalities: Mapping[str, ModalityConfig] | None = None) -> list[Fault]:
    """Return everything that keeps `folder` from being read; an empty list for a sound data set.

    Rows are read and videos are listed, not decoded: damage inside of a frame shows in training only.

    Args:
        folder: of the data set.
        modalities: keys and time steps of a data configuration; None: everything that the set offers.
    """
    return examine(folder, modalities).faults


def examine(
    folder: Path,
    modalities: Mapping[str, ModalityConfig] | None = None,
    times_of: TimesOf = all_frame_times,
) -> Examined:
    """Do the same, and keep what was read; `times_of` tells when the frames of videos are shown."""
    faults: list[Fault] = []
    layout = read_layout(folder, faults)
    if layout is None:
        return Examined(faults, None, None)
    wanted = all_keys(layout) if modalities is None else modalities
    opened = open_set(layout, wanted, times_of, faults)
    tables = [] if opened is None else [place.path for place in opened.contents.places]
    for key in keys_of(wanted, "video"):
        feature = layout.modality.cameras.get(key, "")
        if is_image(layout.features, feature):
            faults.extend(image_faults(layout, feature, list(dict.fromkeys(tables))))
    return Examined(faults, layout, opened)


def all_keys(layout: Layout) -> dict[str, ModalityConfig]:
    """All keys; of the annotations those whose column is there: NVIDIA's own files name some that are not."""
    modality = layout.modality
    keys = {
        kind: [key for key in modality.columns if key.startswith(f"{kind}.")] for kind in ("state", "action")
    }
    texts = [
        key
        for key, column in modality.annotations.items()
        if column in layout.features or column == TASK_INDEX
    ]
    keys |= {"video": list(modality.cameras), "language": texts}
    return {kind: ModalityConfig(delta_indices=[0], modality_keys=names) for kind, names in keys.items()}
