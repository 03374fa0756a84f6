"""A weight's codes and scales: `quantizers.quantize_weight`, by a compiled kernel where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.quantization.kernels.availability import kernels_for
from gr00t.quantization.kernels.choice import TORCH, choose_search
from gr00t.quantization.kernels.library import Arguments, call
from gr00t.quantization.kernels.operators import DTYPES
from gr00t.quantization.numerics import quantizers
from gr00t.quantization.numerics.quantizers import QuantizedWeight
from gr00t.quantization.settings.options import WeightScale
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
    weight = (weight if weight.dtype in DTYPES else weight.float()).contiguous()
    n, k = weight.shape
    found = QuantizedWeight(
        torch.empty((n, k), dtype=torch.int8),
        torch.ones((n, -(-k // block)), dtype=torch.uint8),
        torch.empty((n, 1), dtype=torch.float32),
    )
    shares = torch.tensor(quantizers.CLIPS, dtype=torch.float32)  # held until the call is over
    arguments = Arguments(torch.get_num_threads(), n, k, x=weight.data_ptr(), x_dtype=DTYPES[weight.dtype])
    arguments.block_in, arguments.qmin, arguments.qmax = block, fmt.qmin, fmt.qmax
    arguments.smallest_scale = quantizers.SMALLEST_SCALE
    if granularity is WeightScale.BLOCK:
        arguments.tries = min(quantizers.TRIED_SCALES, fmt.largest_block_scale)
    else:
        arguments.tried, arguments.tries = shares.data_ptr(), len(shares)
    arguments.q, arguments.s = found.codes.data_ptr(), found.row_scale.data_ptr()
    arguments.found_scale = found.block_scale.data_ptr()
    if weight.numel():
        call("search", kernel, arguments)
    return found
