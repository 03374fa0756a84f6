"""The import path under which programs know the messages: `gr00t.serving.wires.n1_5` under that name."""

from __future__ import annotations

from gr00t.serving.wires.n1_5 import MsgSerializer, PackError, decode, pack, simplify, unpack

__all__ = ["MsgSerializer", "PackError", "decode", "pack", "simplify", "unpack"]
