"""Whether stored numbers can be those of a quantized layer: what quantizing yields always, or never.

A hash says that data are as they were written, and whoever writes them can write a hash. So the values are
looked at as well, wherever a layer or statistics come from a file and before they are written into one. What
passes is a layer that computes: no inf, no index out of range, no overflow of an int8. It is not shown to be
the right one; only its hash and its source can tell.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gr00t.quantization.numerics.older_storage import packed_today
from gr00t.quantization.numerics.packing import ends_in_zeros
from gr00t.quantization.numerics.quantizers import SMALLEST_SCALE, scale_for
from gr00t.quantization.numerics.statistics import SAMPLED_ROWS, InputStatistics
from gr00t.quantization.numerics.storage import buffer_shapes, code_range, stored_scale_bits
from gr00t.quantization.settings.options import Rounding, WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

# Largest |R^T R - I| allowed. Measured at most 7.6e-8, of all kinds in blocks of 7 to 1024: it is what
# rounding to float32 leaves (tests/quantization/numerics/test_soundness.py).
ORTHOGONAL_WITHIN = 1e-5

# A channel that was silent during calibration may speak later: the least scale, as a share of the largest.
QUIETEST_CHANNEL = 1e-4

# |log L| of a smoothing diagonal L at most: a channel a million times off the others is a dead one in all but
# name, and float32 must hold the rest.
WIDEST_SMOOTHING = 14

_ROTATIONS = ("rotation_absorbed", "rotation_first", "rotation_in", "rotation_out")


class UnsoundError(ValueError):
    """Stored numbers that no quantization yields; the message names the tensor and what is wrong with it."""


def check_state(state: Mapping[str, Tensor], spec: LinearSpec) -> None:
    """Check the buffers of a layer.

    Args:
        state: by name, as `DuQuantLinear.packed_state` returns them, or 0.1.0's did.
        spec: of the layer.

    Raises:
        UnsoundError: a buffer is missing, left over, of another shape or dtype, or its values cannot be.
    """
    try:
        state = packed_today(state, spec)
    except ValueError as error:
        raise UnsoundError(str(error)) from None
    found = {name: (tuple(value.shape), value.dtype) for name, value in state.items()}
    wanted = buffer_shapes(spec)
    if found != wanted:
        name = next(name for name in [*wanted, *found] if found.get(name) != wanted.get(name))
        told = _told(found.get(name)), _told(wanted.get(name))
        raise UnsoundError(f"{name}: {told[0]}, in a layer of {spec} {told[1]}")
    for name in _ROTATIONS:
        if name in state:
            _check_rotation(name, state[name])
    if "perm" in state:
        _check_permutation(state["perm"])
    if "smoothing" in state:
        _check_positive("smoothing", state["smoothing"])
        if state["smoothing"].log().abs().amax() > WIDEST_SMOOTHING + 1e-3:
            raise UnsoundError(f"smoothing: beyond exp(-{WIDEST_SMOOTHING}) to exp({WIDEST_SMOOTHING})")
    if "act_scale" in state:
        _check_static_scales(state["act_scale"], state["calibrated"])
    if "row_scale" in state:
        _check_positive("row_scale", state["row_scale"])
        _check_weight(state["codes"], state.get("block_scale"), state["row_scale"], spec)


def static_scale(peak: Tensor, fmt: IntFormat) -> Tensor:
    """Return the static activation scales (K,) that cover the peaks (K,) of all channels.

    Raises:
        UnsoundError: a peak is inf or nan.
    """
    scale = scale_for(peak.clamp_min(peak.amax() * QUIETEST_CHANNEL), fmt)
    _check_spread(scale)
    return scale


def check_statistics(statistics: InputStatistics, channels: int) -> None:
    """Check recorded statistics of an input of `channels` channels.

    Raises:
        UnsoundError: they have another shape or dtype, or values that were not recorded from any input.
    """
    wanted = {"peak": ((channels,), torch.float32), "sample": ((SAMPLED_ROWS, channels), torch.bfloat16)}
    for name, value in statistics.tensors().items():
        found = tuple(value.shape), value.dtype
        if found != wanted[name]:
            raise UnsoundError(f"statistics.{name}: {_told(found)}, expected {_told(wanted[name])}")
        if not torch.isfinite(value).all():
            raise UnsoundError(f"statistics.{name}: it holds inf or nan")
    peak, sample, _ = statistics
    if (peak < 0).any():
        raise UnsoundError("statistics.peak: a peak below zero")
    if (sample.abs() > peak.to(torch.bfloat16)).any():
        raise UnsoundError("statistics.sample: a value above the peak of its channel")


def checked_inputs(rows: Tensor, channels: int) -> Tensor:
    """Return `rows`, as a layer of `channels` channels can be rounded by them.

    Raises:
        UnsoundError: they have another shape or dtype, are none, or hold inf or nan.
    """
    if rows.dtype != torch.bfloat16 or rows.dim() != 2 or rows.shape[1] != channels or not len(rows):
        found = _told((tuple(rows.shape), rows.dtype))
        raise UnsoundError(f"inputs to round by: {found}, expected (rows, {channels}) of bfloat16")
    if not torch.isfinite(rows).all():
        raise UnsoundError("inputs to round by: they hold inf or nan")
    return rows


def _check_rotation(name: str, rotation: Tensor) -> None:
    exact = rotation.double()
    identity = torch.eye(rotation.shape[-1], dtype=exact.dtype, device=exact.device)
    off = float((exact.mT @ exact).sub_(identity).abs_().amax())
    if not off <= ORTHOGONAL_WITHIN:  # also where it is nan
        raise UnsoundError(f"{name}: not orthogonal, off by {off:.3g}, allowed {ORTHOGONAL_WITHIN:g}")


def _check_permutation(perm: Tensor) -> None:
    everything = torch.arange(len(perm), dtype=perm.dtype, device=perm.device)
    if not torch.equal(perm.sort().values, everything):
        raise UnsoundError(f"perm: no permutation of {len(perm)} channels")


def _check_positive(name: str, values: Tensor) -> None:
    bad = int((~(torch.isfinite(values) & (values > 0))).sum())
    if bad:
        raise UnsoundError(f"{name}: {bad} of {values.numel()} values are not finite and above zero")


def _check_spread(scale: Tensor) -> None:
    _check_positive("act_scale", scale)
    # Peaks are raised to their share of the largest, in float32: one rounding each.
    if scale.amin() < scale.amax() * QUIETEST_CHANNEL * (1 - 1e-5):
        raise UnsoundError(f"act_scale: from {scale.amin():.3g} to {scale.amax():.3g} in one layer")


def _check_static_scales(scale: Tensor, calibrated: Tensor) -> None:
    if int(calibrated.view(torch.uint8)) > 1:
        raise UnsoundError("calibrated: neither true nor false")
    _check_spread(scale)
    if not calibrated and not (scale == 1).all():
        raise UnsoundError("act_scale: not 1 although no scales are fixed yet")


def _check_weight(codes: Tensor, block_scale: Tensor | None, row_scale: Tensor, spec: LinearSpec) -> None:
    """Check codes and block scales as they are stored."""
    fmt = spec.weight
    assert fmt is not None
    # No code and no block scale is out of range: each has as many bits as its range takes.
    _check_end("codes", codes.view(torch.uint8), fmt.bits, spec.in_features)
    if block_scale is not None:
        groups = -(-spec.in_features // spec.block_in)
        _check_end("block_scale", block_scale, stored_scale_bits(fmt), groups)
    if spec.rounding is Rounding.FEEDBACK:
        return  # the largest weight is not what it was when it is rounded
    # A row's largest weight gets the largest code, whatever its scales, unless it is as good as zero.
    is_block = spec.weight_scale is WeightScale.BLOCK
    silent = SMALLEST_SCALE / (fmt.largest_block_scale if is_block else 1)
    low, high = code_range(codes, spec)
    faint = torch.maximum(high, -low.to(torch.int16)) < fmt.qmax
    bad = int((faint & (row_scale[:, 0] > silent)).sum())
    if bad:
        raise UnsoundError(f"codes: {bad} rows use less than the range of their {fmt.bits} bits")


def _check_end(name: str, packed: Tensor, bits: int, count: int) -> None:
    if not ends_in_zeros(packed, bits, count):
        rest = "half byte after the last one is" if bits == 4 else "bits after the last one are"
        raise UnsoundError(f"{name}: the {rest} not zero")


def _told(found: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "absent" if found is None else f"{found[0]} of {str(found[1]).removeprefix('torch.')}"
