"""The layer in PyTorch's operations: what runs where nothing is compiled, and what everything is tested by.

    acc[m, n] = sum_k q_x[m, k] q_w[n, k], three ways that agree bit for bit

Every product of two int8 and every sum of up to 131,071 of them is an integer below 2^31, so any arithmetic
that represents the partial sums exactly gives the int32 result, in whatever order it adds: float64 always
(2^53), float32 over at most 1,024 channels at a time (1,024 * 128 * 128 = 2^24), and int8 instructions with
an int32 accumulator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gr00t.quantization.kernels.operands import LinearOperands
from gr00t.quantization.numerics.ordered_rotation import rotate_back_in_order, rotate_in_order
from gr00t.quantization.numerics.quantizers import quantize, scale_for
from gr00t.quantization.settings.spec import IntFormat

Accumulate = Callable[[Tensor, Tensor], Tensor]

_EXACT_IN_FLOAT32 = 2**24 // (128 * 128)


def transform(
    x: Tensor,
    smoothing: Tensor | None,
    rotation_first: Tensor | None,
    perm: Tensor | None,
    rotation_in: Tensor | None,
) -> Tensor:
    """Return `x L^-1 R1 P R2` in float32 for x (M, K)."""
    h = x.float()
    if smoothing is not None:
        h = h / smoothing
    if rotation_first is not None:
        h = rotate_in_order(h, rotation_first)
    if perm is not None:
        h = h.index_select(1, perm)
    return h if rotation_in is None else rotate_in_order(h, rotation_in)


def quantize_input(h: Tensor, layer: LinearOperands) -> tuple[Tensor, Tensor]:
    """Return the codes (M, K) int8 of `h` (M, K) and the scale (M, 1) float32 outside the sum."""
    fmt = IntFormat(layer.activation_bits)
    peak = torch.maximum(h.amax(dim=1, keepdim=True), -h.amin(dim=1, keepdim=True))
    if layer.act_scale is None:
        s_x = scale_for(peak, fmt)
        return (h / s_x).round_().to(torch.int8), s_x  # nothing to clip: the scale is the peak's
    # A static scale saturates: a row with inf or nan must not come out as finite numbers.
    s_x = torch.where(torch.isfinite(peak), 1.0, torch.nan)
    return quantize(h, layer.act_scale, fmt), s_x


def restore_output(y: Tensor, layer: LinearOperands) -> Tensor:
    """Return `y U^T`, (M, N) float32."""
    return y if layer.rotation_out is None else rotate_back_in_order(y, layer.rotation_out)


def accumulate_reference(q_x: Tensor, q_w: Tensor) -> Tensor:
    """The oracle: a float64 GEMM.

    Args:
        q_x: (M, K) int8.
        q_w: (N, K) int8.

    Returns:
        (M, N) int32.
    """
    return (q_x.double() @ q_w.double().T).to(torch.int32)


def accumulate_float32(q_x: Tensor, q_w: Tensor) -> Tensor:
    """Float32 GEMMs over runs of at most 1,024 input channels, each exact, added as int32; runs anywhere."""
    acc = torch.zeros(q_x.shape[0], q_w.shape[0], dtype=torch.int32, device=q_x.device)
    for x, w in zip(q_x.split(_EXACT_IN_FLOAT32, dim=1), q_w.split(_EXACT_IN_FLOAT32, dim=1), strict=True):
        acc += (x.float() @ w.float().T).to(torch.int32)
    return acc


def accumulate_int8(q_x: Tensor, q_w: Tensor) -> Tensor:
    """PyTorch's int8 GEMM, its operands padded with zeros to the sizes for which it is right."""
    (m, k), n = q_x.shape, q_w.shape[0]
    if q_x.is_cuda:  # more than 16 rows, K and N multiples of 8
        pad_m, pad_k, pad_n = max(0, 17 - m), -k % 8, -n % 8
    else:  # with one input channel the CPU's takes a row for a column, and answers wrong (torch 2.13)
        pad_m, pad_k, pad_n = 0, int(k == 1), 0
    if pad_m or pad_k:  # padding by nothing would copy
        q_x = torch.nn.functional.pad(q_x, (0, pad_k, 0, pad_m))
    if pad_n or pad_k:
        q_w = torch.nn.functional.pad(q_w, (0, pad_k, 0, pad_n))
    return torch._int_mm(q_x, q_w.T)[:m, :n]


ACCUMULATORS: dict[str, Accumulate] = {
    "reference": accumulate_reference,
    "float32": accumulate_float32,
    "int8": accumulate_int8,
}
