"""What the operators take of a layer, in their order, from its buffers and its spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gr00t.quantization.kernels.operators import DTYPES
from gr00t.quantization.numerics.storage import stored_scale_bits
from gr00t.quantization.settings.options import RowRotation
from gr00t.quantization.settings.spec import LinearSpec

Buffers = Mapping[str, Tensor | None]


def transform_arguments(buffers: Buffers, spec: LinearSpec) -> tuple[Any, ...]:
    """Of `rotate`, between x and the kernel."""
    return *_transforms(buffers), spec.block_in


def front_arguments(buffers: Buffers, spec: LinearSpec, is_calibrating: bool) -> tuple[Any, ...]:
    """Of `front`, between x and the kernel; scales are per token while the layer calibrates."""
    assert spec.activation is not None
    act_scale = None if is_calibrating else buffers["act_scale"]
    return *_transforms(buffers), act_scale, spec.block_in, spec.activation.bits


def weight_arguments(buffers: Buffers, spec: LinearSpec) -> tuple[Any, ...]:
    """Of `accumulate`, between the codes of x and the block."""
    assert spec.weight is not None
    return buffers["codes"], buffers["block_scale"], stored_scale_bits(spec.weight)


def rear_arguments(buffers: Buffers, spec: LinearSpec, bias: Tensor | None) -> tuple[Any, ...]:
    """Of `rear`, between the scales of x and the dtype."""
    if bias is not None and bias.dtype not in DTYPES:
        bias = bias.float()
    rotation_out = None if spec.row_rotation is RowRotation.PROPAGATE else buffers["rotation_out"]
    return buffers["row_scale"], rotation_out, bias, spec.block_out


def _transforms(buffers: Buffers) -> tuple[Tensor | None, ...]:
    return buffers["smoothing"], buffers["rotation_first"], buffers["perm"], buffers["rotation_in"]
