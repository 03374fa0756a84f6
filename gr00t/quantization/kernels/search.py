"""A weight's codes and scales: `quantizers.quantize_weight`, by a compiled kernel where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.kernels.availability import kernels_for
from gr00t.quantization.kernels.choice import choose_search
from gr00t.quantization.kernels.library import call
from gr00t.quantization.kernels.operands import DTYPES, FLOATS, SearchCall
from gr00t.quantization.numerics import quantizers
from gr00t.quantization.numerics.quantizers import QuantizedWeight
from gr00t.quantization.settings.options import TORCH, WeightScale
from gr00t.quantization.settings.spec import IntFormat


def quantize_weight(weight: Tensor, fmt: IntFormat, block: int, granularity: WeightScale) -> QuantizedWeight:
    """Quantize a finite weight (N, K), on whatever device; arguments are those of the namesake.

    To the same bits whoever searches: PyTorch's operations or, on a CPU whose kernels were loaded, the
    fastest of them.
    """
    kernel = choose_search(weight.device, kernels_for(weight.device)[0])
    if kernel == TORCH:
        return quantizers.quantize_weight(weight, fmt, block, granularity)
    return search(weight, fmt, block, granularity, kernel)


def search(
    weight: Tensor, fmt: IntFormat, block: int, granularity: WeightScale, kernel: str
) -> QuantizedWeight:
    """Quantize a finite weight (N, K), on a CPU, by the named kernel.

    Raises:
        NativeKernelError: the kernel is not loaded, or memory ran out.
    """
    # A layer's is float64, whose transforms were computed in it; the search is in float32.
    weight = (weight if weight.dtype in FLOATS else weight.float()).contiguous()
    n, k = weight.shape
    found = QuantizedWeight(
        torch.empty((n, k), dtype=torch.int8),
        torch.ones((n, -(-k // block)), dtype=torch.uint8),
        torch.empty((n, 1), dtype=torch.float32),
    )
    shares = None
    tries = min(quantizers.TRIED_SCALES, fmt.largest_block_scale)
    if granularity is WeightScale.CHANNEL:
        shares, tries = torch.tensor(quantizers.CLIPS, dtype=torch.float32), len(quantizers.CLIPS)
    if weight.numel():
        record = SearchCall(
            weight=weight.data_ptr(),
            weight_dtype=DTYPES[weight.dtype],
            codes=found.codes.data_ptr(),
            block_scale=found.block_scale.data_ptr(),
            row_scale=found.row_scale.data_ptr(),
            shares=0 if shares is None else shares.data_ptr(),
            out_features=n,
            in_features=k,
            block_in=block,
            bits=fmt.bits,
            tries=tries,
            threads=torch.get_num_threads(),
            smallest_scale=quantizers.SMALLEST_SCALE,
        )
        call("search", kernel, record)
    return found
