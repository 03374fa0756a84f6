"""Error-feedback rounding of a weight, by a compiled kernel where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.kernels import search
from gr00t.quantization.kernels.availability import kernels_for
from gr00t.quantization.kernels.choice import choose_search
from gr00t.quantization.kernels.library import call
from gr00t.quantization.kernels.operands import FeedbackCall
from gr00t.quantization.numerics import feedback
from gr00t.quantization.numerics.hessian import Factor
from gr00t.quantization.numerics.quantizers import TRIED_SCALES, QuantizedWeight, row_steps
from gr00t.quantization.settings.options import TORCH, WeightScale
from gr00t.quantization.settings.spec import IntFormat


def round_with_feedback(
    weight: Tensor, factor: Factor, fmt: IntFormat, block: int, granularity: WeightScale
) -> QuantizedWeight:
    """Quantize a finite weight (N, K), float32, on whatever device; arguments are those of the namesake."""
    if granularity is WeightScale.BLOCK:
        row_scale = row_steps(weight, fmt)
    else:
        row_scale = search.quantize_weight(weight, fmt, block, granularity).row_scale
    kernel = choose_search(weight.device, kernels_for(weight.device)[0])
    panel = None if kernel == TORCH else panel_by(kernel)
    return feedback.round_with_feedback(weight, row_scale, factor, fmt, block, granularity, panel)


def panel_by(kernel: str) -> feedback.RoundPanel:
    """Return `feedback.round_panel`, float32 on a CPU, by the named kernel.

    What is returned raises a NativeKernelError where the kernel is not loaded, or memory ran out.
    """

    def round_panel(
        own: Tensor, target: Tensor, factor: Factor, fmt: IntFormat, block: int, largest: int
    ) -> tuple[Tensor, Tensor]:
        channels, rows = own.shape
        if not (own.is_contiguous() and target.is_contiguous() and factor.ratios.stride(1) == 1):
            raise ValueError("a panel's rows do not lie one after the other")
        codes = torch.empty((channels, rows), dtype=torch.int8)
        block_scale = torch.empty((-(-channels // block), rows), dtype=torch.uint8)
        record = FeedbackCall(
            own=own.data_ptr(),
            target=target.data_ptr(),
            ratios=factor.ratios.data_ptr(),
            weights=factor.weights.data_ptr(),
            codes=codes.data_ptr(),
            block_scale=block_scale.data_ptr(),
            rows=rows,
            channels=channels,
            stride=factor.ratios.stride(0),
            block_in=block,
            bits=fmt.bits,
            largest=largest,
            tries=min(TRIED_SCALES, fmt.largest_block_scale) if largest > 1 else 0,
            threads=torch.get_num_threads(),
        )
        call("feedback", kernel, record)
        return codes, block_scale

    return round_panel
