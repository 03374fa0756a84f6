"""`acc[m, n] = sum_k q_x[m, k] q_w[n, k]`, three ways that agree bit for bit.

Every product of two int8 and every sum of up to 131,071 of them is an integer below 2^31, so any arithmetic
that represents the partial sums exactly gives the int32 result, in whatever order it adds: float64 always
(2^53), float32 over at most 1,024 channels at a time (1,024 * 128 * 128 = 2^24), and int8 instructions with
an int32 accumulator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Accumulate = Callable[[Tensor, Tensor], Tensor]

_EXACT_IN_FLOAT32 = 2**24 // (128 * 128)


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
