"""PyTorch's int8 GEMM, tried: what it is asked on this CPU, and what it answers.

Where the library behind it has no dot product of bytes it adds pairs of products in 16 bits, saturating: sums
of large codes are wrong without a word. What the processor could do does not tell: the library may be old, or
told to leave instructions alone (`ONEDNN_MAX_CPU_ISA`). So products of extreme codes are compared with exact
integers, in the forms that it has kernels of their own for.
"""

from __future__ import annotations

import functools

import torch

from gr00t.quantization.kernels.torch_reference import accumulate_int8, accumulate_reference

# M, K, N: one row, few, and as many as the diffusion transformer and the language model have; one output;
# even and odd K, longer than any step of a loop, and shorter than one.
_PRODUCTS = (
    *((1, 2, 1), (1, 64, 16), (1, 2048, 80), (4, 257, 33), (16, 130, 1)),
    *((17, 3, 64), (17, 2049, 16), (49, 1536, 64), (566, 320, 48)),
)


@functools.cache
def try_int8() -> tuple[bool, str]:
    """Return whether PyTorch's int8 GEMM is exact on this CPU, and what was tried.

    It is tried once per process; that takes some milliseconds.
    """
    generator = torch.Generator().manual_seed(0)
    for m, k, n in _PRODUCTS:
        q_x, q_w = _extreme(m, k, generator), _extreme(n, k, generator)
        if not torch.equal(accumulate_int8(q_x, q_w), accumulate_reference(q_x, q_w)):
            return False, f"PyTorch's int8 GEMM is wrong here: tried {m}x{k} by {k}x{n} of extreme codes"
    return True, f"PyTorch's int8 GEMM is exact here: tried {len(_PRODUCTS)} products of extreme codes"


def _extreme(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """Return codes that sum up: rows of 127, of -128, of both in turns and in disorder, (rows, columns)."""
    codes = torch.randint(2, (rows, columns), generator=generator, dtype=torch.int8) * -1 ^ 127
    codes[0::4], codes[1::4] = 127, -128
    codes[2::4, 0::2], codes[2::4, 1::2] = 127, -128
    return codes
