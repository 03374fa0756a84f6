"""How this repository's demonstration policy sees LIBERO: as the others do, at a quarter of the pixels."""

from __future__ import annotations

from typing import ClassVar

from examples.Libero.custom_data_config import LiberoDataConfig


class DemoDataConfig(LiberoDataConfig):
    """Images of 112 pixels."""

    image_size: ClassVar[int] = 112
