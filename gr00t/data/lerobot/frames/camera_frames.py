"""What a camera saw in all episodes: its frames by number, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class CameraFrames(ABC):
    """The frames of a camera's videos, numbered through all of them.

    Args:
        videos: the files, in order.
        times: per video (frames,) float64, when each frame is shown, in seconds since the first one.
        shape: height, width and channels of a frame.
    """

    def __init__(
        self, videos: Sequence[Path], times: Sequence[NDArray[np.float64]], shape: tuple[int, int, int]
    ) -> None:
        self.videos = tuple(videos)
        self.times = list(times)
        self.shape = shape
        self._ends: NDArray[np.int64] = np.cumsum([len(shown) for shown in times])

    def __len__(self) -> int:
        """Number of frames of all videos."""
        return int(self._ends[-1])

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the frames of these numbers (...), counted over all videos: (..., H, W, 3).

        Raises:
            IndexError: there is no frame of such a number.
            DatasetError: what the frames are read from is damaged, or no longer what it was.
        """
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"frames {numbers.min()} to {numbers.max()} of {len(self)}")
        return self._read(numbers.reshape(-1)).reshape(*numbers.shape, *self.shape)

    @abstractmethod
    def _read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The frames of these numbers (n,), in any order: (n, H, W, 3)."""
