"""How this repository's demonstration policy sees LIBERO: as the others do, at a quarter of the pixels."""

from __future__ import annotations

from typing import ClassVar

from examples.Libero.custom_data_config import LiberoDataConfig


class DemoDataConfig(LiberoDataConfig):
    """Whole images of 112 pixels, unchanged in training.

    Cutting a part out at random moves what is seen by centimetres and the hand's pose not at all: a network
    that learns from nothing, of one place under one light, would learn to aim that badly.
    """

    image_size: ClassVar[int] = 112
    image_crop: ClassVar[float] = 1.0
    color_jitter: ClassVar[dict[str, float]] = {}
