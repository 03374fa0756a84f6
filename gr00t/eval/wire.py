"""The import path under which programs know the messages: `gr00t.serving.wires.n1_5` under that name."""

from __future__ import annotations

from gr00t.serving.wires.n1_5 import (
    BUSY,
    MAX_VALUES,
    STOPPING,
    MsgSerializer,
    PackError,
    WireError,
    build_array,
    decode,
    pack,
    simplify,
    unpack,
    what_cannot_be_sent,
)

__all__ = [
    "BUSY",
    "MAX_VALUES",
    "STOPPING",
    "MsgSerializer",
    "PackError",
    "WireError",
    "build_array",
    "decode",
    "pack",
    "simplify",
    "unpack",
    "what_cannot_be_sent",
]
