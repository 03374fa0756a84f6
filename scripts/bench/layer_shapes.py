"""The shapes of the linear layers that are quantized in the full-size model, for benchmarks."""

from __future__ import annotations

from typing import NamedTuple


class LayerShape(NamedTuple):
    """`count` layers of `in_features` -> `out_features`; `kind` names them."""

    kind: str
    in_features: int
    out_features: int
    count: int
    bias: bool


# 12 layers of the language model, 16 of the diffusion transformer.
QUANTIZED_LAYERS = (
    LayerShape("llm q/o", 2048, 2048, 24, False),
    LayerShape("llm k/v", 2048, 1024, 24, False),
    LayerShape("llm gate/up", 2048, 6144, 24, False),
    LayerShape("llm down", 6144, 2048, 12, False),
    LayerShape("dit up", 1536, 6144, 16, True),
    LayerShape("dit down", 6144, 1536, 16, True),
)
