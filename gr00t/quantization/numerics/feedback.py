"""Error-feedback rounding: what one weight loses by rounding is made up for by those after it.

Source: GPTQ (arXiv 2210.17323), in its equivalent successive form. With the factor `H = R D R^T` of the
inputs' Hessian, for channels k ascending,

    v_k = w_k + sum_{j<k} e_j R_jk,    c_k = round(v_k / (s g)),    e_k = w_k - s g c_k

leaves an output error of `sum_k D_k (v_k - s g c_k)^2`. Other than there, g is chosen at the start of each
block, for what its v will be if nothing of it is rounded, with errors weighted by D. The row step s is that
of rounding to nearest, and what is stored is the same: s, g and c.

Channels go in panels: what errors before a panel do to it is one matrix product, what they do within it is
`round_panel`, or a compiled kernel with the same bits (`kernels.feedback`). Everything is (K, N) here, in
units of s: rows are independent of each other, and those of a vector lie together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gr00t.quantization.numerics.hessian import Factor
from gr00t.quantization.numerics.quantizers import QuantizedWeight, best_multiple
from gr00t.quantization.settings.options import WeightScale
from gr00t.quantization.settings.spec import IntFormat

# (own, target, factor, fmt, block, largest) -> codes, block scales: `round_panel`.
RoundPanel = Callable[[Tensor, Tensor, Factor, IntFormat, int, int], tuple[Tensor, Tensor]]

# Channels of a panel at least, in whole blocks. More of them leave less to the matrix product, which is fast.
_PANEL = 128

# Rows are padded to whole vectors of the compiled kernels.
_LANES = 16


def round_with_feedback(
    weight: Tensor,
    row_scale: Tensor,
    factor: Factor,
    fmt: IntFormat,
    block: int,
    granularity: WeightScale,
    panel: RoundPanel | None = None,
) -> QuantizedWeight:
    """Quantize a weight by what its errors do to the output.

    On one machine with one number of threads the codes are the same whatever rounds the panels. Elsewhere the
    linear algebra library adds in another order, and one code that falls otherwise changes all after it: the
    codes that are stored are the layer.

    Args:
        weight: (N, K), float32 or float64, which is computed in; only read.
        row_scale: (N, 1) float32, the step of each row.
        factor: of the Hessian of its inputs, in the dtype of the weight.
        fmt: code format.
        block: B, input channels per block; the last block may be shorter.
        granularity: `channel` fixes every block scale to 1.
        panel: what rounds a panel; `round_panel` if None.
    """
    rows, channels = weight.shape
    largest = fmt.largest_block_scale if granularity is WeightScale.BLOCK else 1
    padded = -(-rows // _LANES) * _LANES
    errors = weight.new_zeros((channels, padded))  # weights, where nothing is rounded yet
    torch.div(weight.T, row_scale.T, out=errors[:, :rows])
    codes = torch.empty((channels, padded), dtype=torch.int8, device=weight.device)
    block_scale = torch.empty((-(-channels // block), padded), dtype=torch.uint8, device=weight.device)
    width = max(1, _PANEL // block) * block
    for first in range(0, channels, width):
        part = slice(first, min(first + width, channels))
        target = torch.addmm(errors[part], factor.ratios[:first, part].T, errors[:first])
        own = Factor(factor.ratios[part, part], factor.weights[part], factor.damping)
        found = (panel or round_panel)(errors[part], target, own, fmt, block, largest)
        codes[part], block_scale[first // block : -(-part.stop // block)] = found
    return QuantizedWeight(codes[:, :rows].T.contiguous(), block_scale[:, :rows].T.contiguous(), row_scale)


def round_panel(
    own: Tensor, target: Tensor, factor: Factor, fmt: IntFormat, block: int, largest: int
) -> tuple[Tensor, Tensor]:
    """Round the channels of a panel, one after the other; the oracle of the compiled kernels.

    Args:
        own: (P, N) the weights, in units of their row's step; their errors afterwards.
        target: (P, N) the same, with what the errors of earlier panels add; overwritten.
        factor: the panel's part of it, ratios (P, P) and weights (P,).
        fmt: code format.
        block: channels per block scale; the last block may be shorter.
        largest: block scale allowed.

    Returns:
        Codes (P, N) int8, and block scales (ceil(P / block), N) uint8.
    """
    codes = torch.empty(own.shape, dtype=torch.int8, device=own.device)
    block_scale = torch.empty((-(-len(own) // block), own.shape[1]), dtype=torch.uint8, device=own.device)
    for number, first in enumerate(range(0, len(own), block)):
        last = min(first + block, len(own))
        v = _expected(own[first:last], target[first:last], factor.ratios[first:last, first:last])
        unclipped = (v.abs().amax(dim=0) / fmt.qmax).clamp_(max=largest).ceil_().clamp_(min=1)
        scale = best_multiple(v, unclipped, fmt, factor.weights[first:last]) if largest > 1 else unclipped
        block_scale[number] = scale.to(torch.uint8)
        for k in range(first, last):
            code = (target[k] / scale).clamp_(fmt.qmin, fmt.qmax).round_()
            codes[k] = code.to(torch.int8)
            own[k] -= scale * code
            # A product and then a sum, each rounded: two operations that every processor has.
            target[k + 1 :] += own[k] * factor.ratios[k, k + 1 :, None]
    return codes, block_scale


def _expected(own: Tensor, target: Tensor, ratios: Tensor) -> Tensor:
    """What v will be in a block that nothing is rounded in: weights moved to make up for all before them.

    Args:
        own: (B, N) the weights.
        target: (B, N) the same, with what errors before the block add.
        ratios: (B, B) the block's part of R.
    """
    v = target.clone()
    for k in range(len(v)):
        v[k + 1 :] += (own[k] - v[k]) * ratios[k, k + 1 :, None]
    return v
