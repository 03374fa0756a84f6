"""Where frames may come from, by name: read by commands before a decoder is imported."""

from __future__ import annotations

from typing import Literal

# auto: the cache, if it leaves half of the free space to checkpoints and whatever else is written, or decode;
# cache: that or an error; decode: each frame when it is needed.
FrameSource = Literal["auto", "cache", "decode"]
