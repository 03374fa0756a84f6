"""Compile for a GPU, without one, what a layer would launch there; one JSON line per kernel.

    python -m tests.quantization.kernels.triton.compile_triton CAPABILITY PROCESSORS ROTATION BLOCK BITS

A program of its own: triton decides once for a process whether it compiles or interprets.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels.triton import launch
from gr00t.quantization.settings.options import TRITON, Rotation
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from tests.quantization.kernels.kernel_layers import inputs, linear, on

OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
}


def compile_instead(capability: int) -> None:
    """Let every launch compile its kernel as triton would specialize it, and run nothing."""

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        signature, constants, aligned = {}, {}, {}
        for index, (parameter, value) in enumerate(zip(self.params, args, strict=True)):
            is_one = isinstance(value, int) and value == 1
            if parameter.is_constexpr or value is None or is_one:
                signature[parameter.name], constants[(index,)] = "constexpr", value
                continue
            signature[parameter.name] = POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "i32"
            if isinstance(value, torch.Tensor) or value % 16 == 0:
                aligned[(index,)] = [["tt.divisibility", 16]]
        assert options.keys() <= set(OPTIONS)
        source = ASTSource(self, signature, constants, aligned)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        found = {"kernel": self.__name__, "shared": compiled.metadata.shared, "ptx": compiled.asm["ptx"]}
        sys.stdout.write(json.dumps(found) + "\n")

    JITFunction.run = run


def main() -> None:
    capability, processors, block = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    spec = LinearSpec(
        *(256, 512),
        weight=IntFormat(int(sys.argv[5])),
        rotation=Rotation(sys.argv[3]),
        block_in=block,
        block_out=block,
    )
    layer = DuQuantLinear.from_linear(linear(256, 512, dtype=torch.bfloat16), spec)
    compile_instead(capability)
    launch._INTERPRETED_PROCESSORS = processors
    on(layer, TRITON, TRITON)(inputs(200, 256).bfloat16())
    on(layer, TRITON, "float32")(inputs(2, 256).bfloat16())  # what follows sums from elsewhere


if __name__ == "__main__":
    main()
