"""Layers to try kernels on, for tests of the compiled CPU kernels and of Triton's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from gr00t.quantization.calibration.layer_calibration import LayerCalibration
from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.kernels import registry
from gr00t.quantization.kernels.operands import LinearOperands
from gr00t.quantization.settings.options import Execution, Rotation, RowRotation, WeightScale
from gr00t.quantization.settings.scheme import RuntimeOptions
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

INTEGER = RuntimeOptions(Execution.INTEGER)


def linear(k: int, n: int, bias: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(k, n, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return layer.to(dtype).requires_grad_(False)


def inputs(*shape: int, seed: int = 1) -> torch.Tensor:
    """Gaussian, with outlier channels."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    x[..., ::37] *= 20
    return x


def on(layer: DuQuantLinear, transformer: str, accumulator: str) -> DuQuantLinear:
    layer.backend, layer._unpacked = registry.backend(transformer, accumulator), None
    return layer


def no_operands(**given: torch.Tensor | None) -> LinearOperands:
    """Of a layer that has nothing but what is given."""
    numbers = {"block_in": 16, "block_out": 16, "activation_bits": 8, "code_bits": 4, "scale_bits": 4}
    return LinearOperands(*[None] * 10, **numbers)._replace(**given)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit, nan in the same places."""
    return (
        a.dtype == b.dtype
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
    )


def random_layers(
    count: int, seed: int, rows: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 17, 33)
) -> Iterator[tuple[str, DuQuantLinear, torch.Tensor]]:
    """Yield a name, a layer and an input for it: shapes, bits, blocks, rotations, dtypes, static and dynamic
    scales, from one row to several tiles, zero rows, rows with inf and nan (the last one, if any).
    """
    generator = torch.Generator().manual_seed(seed)
    fast = (Rotation.HADAMARD, Rotation.SVD, Rotation.NONE)

    def draw(*options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    for case in range(count):
        k, n = draw(1, 7, 32, 96, 128, 130, 256, 384), draw(1, 5, 33, 64, 128, 150)
        m = draw(*rows)
        spec = LinearSpec(
            k,
            n,
            weight=IntFormat(draw(2, 3, 4, 4, 4, 5, 6, 7, 8)),
            activation=IntFormat(draw(2, 4, 8, 8)),
            block_in=draw(4, 16, 16, 24, 32, 64, 128, 256),
            block_out=draw(4, 16, 16, 24, 32, 64, 128),
            weight_scale=draw(*WeightScale),
            permute=draw(True, False),
            rotation=draw(*fast, *fast, *fast, Rotation.DUQUANT),
            row_rotation=draw(*RowRotation),
            calibration_steps=draw(0, 0, 1),
        )
        dtype = draw(torch.float32, torch.bfloat16, torch.float16)
        layer = DuQuantLinear.from_linear(linear(k, n, draw(True, False), dtype, case), spec).run_as(INTEGER)
        x = (inputs(m, k, seed=case) * draw(1.0, 100.0)).to(dtype)
        if spec.static and draw(True, False):
            calibration = LayerCalibration(layer, PooledPercentile(99.0, requests=1))
            layer(x)
            assert calibration.finish()
        x[0] = draw(0.0, 1.0)
        x[-1, 0] = draw(1.0, 1.0, float("inf"), float("-inf"), float("nan"))
        yield f"case {case}, {dtype}, {m} rows: {spec}", layer, x
