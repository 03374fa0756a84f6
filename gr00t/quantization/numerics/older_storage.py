"""Codes and block scales as 0.1.0 stored them: at 2 and 3 bits as those of 4, at 5 to 7 as whole bytes.

Their block scales were bytes at 2 and 3 bits, half bytes at 5 to 7. Whatever is read may hold them: packs,
exported models, state dicts. The dtype of the codes tells (`storage`), and they are packed anew where they
arrive: the numbers stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gr00t.quantization.numerics.packing import packed_bytes, unpack_codes
from gr00t.quantization.numerics.quantizers import QuantizedWeight
from gr00t.quantization.numerics.storage import BLOCK_SCALE_OFFSET, codes_dtype, store_weight
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

PACKED = ("codes", "block_scale")


def is_older(state: Mapping[str, Tensor], spec: LinearSpec) -> bool:
    """Whether codes and block scales of a layer of `spec` are stored as 0.1.0 did, and not as today."""
    if spec.weight is None or spec.weight.bits in (4, 8) or "codes" not in state:
        return False
    codes, scale, fmt = state["codes"], state.get("block_scale"), spec.weight
    shape = spec.out_features, packed_bytes(spec.in_features, _code_bits(fmt))
    scale_shape = spec.out_features, packed_bytes(_groups(spec), _scale_bits(fmt))
    return (
        (codes.dtype != codes_dtype(fmt) and tuple(codes.shape) == shape)
        and codes.dtype in (torch.uint8, torch.int8)
        and (scale is None or (scale.dtype == torch.uint8 and tuple(scale.shape) == scale_shape))
    )


def packed_today(state: Mapping[str, Tensor], spec: LinearSpec) -> dict[str, Tensor]:
    """Return the buffers of a layer by name, `codes` and `block_scale` stored as today.

    Raises:
        ValueError: a code or a block scale is none that `spec` allows.
    """
    if not is_older(state, spec):
        return dict(state)
    assert spec.weight is not None
    fmt = spec.weight
    codes = unpack_codes(state["codes"].view(torch.uint8), _code_bits(fmt), spec.in_features)
    low, high = codes.aminmax()
    if low < fmt.qmin or high > fmt.qmax:
        raise ValueError(f"codes: {low} to {high}, {fmt.bits} bits are {fmt.qmin} to {fmt.qmax}")
    scale = torch.ones(len(codes), _groups(spec), dtype=torch.uint8, device=codes.device)
    if "block_scale" in state:
        scale = unpack_codes(state["block_scale"], _scale_bits(fmt), _groups(spec)).view(torch.uint8)
        scale = scale + BLOCK_SCALE_OFFSET if fmt.bits > 4 else scale
        low, high = scale.aminmax()
        if low < 1 or high > fmt.largest_block_scale:
            raise ValueError(f"block_scale: {low} to {high}, expected 1 to {fmt.largest_block_scale}")
    stored = store_weight(QuantizedWeight(codes, scale, torch.empty(0)), fmt)
    return {**state, **{name: stored[name] for name in PACKED if name in state}}


def _groups(spec: LinearSpec) -> int:
    return -(-spec.in_features // spec.block_in)


def _code_bits(fmt: IntFormat) -> int:
    """What a code took."""
    return 4 if fmt.bits < 4 else 8


def _scale_bits(fmt: IntFormat) -> int:
    """What a block scale took."""
    return 8 if fmt.bits < 4 else 4
