"""Everything that is wrong with a data set, without training on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.faults import Fault
from gr00t.data.lerobot.layout import DatasetError, Layout

__all__ = ["Fault", "find_faults"]


def find_faults(folder: Path, modalities: Mapping[str, ModalityConfig] | None = None) -> list[Fault]:
    """Return everything that keeps `folder` from being read; an empty list for a sound data set.

    Args:
        folder: of the data set.
        modalities: keys and time steps of a data configuration; None: everything that the set offers.
    """
    try:
        Layout.read(folder)
    except DatasetError as error:
        return list(error.faults) or [Fault(folder, str(error))]
    return []
