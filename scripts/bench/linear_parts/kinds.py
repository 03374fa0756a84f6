"""The layer by what executes it: ours, and what PyTorch offers beside it."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from gr00t.model.network.packed_linear import PackedLinear
from gr00t.quantization import DuQuantLinear, IntFormat, LinearSpec, RuntimeOptions
from gr00t.quantization.kernels import library
from gr00t.quantization.kernels.int8_trial import try_int8
from gr00t.quantization.settings.options import TORCH, Execution

# Weights of one kind together: more than a cache of 32 MB holds, on a GPU one of 60 MB.
_COLD_BYTES = {"cpu": 48 * 2**20, "cuda": 128 * 2**20}


class _OfOneDnn(nn.Module):
    """A layer whose weight is in an order of oneDNN's own, which cannot be copied: a copy packs anew."""

    nbytes: int

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed_from = (linear,)  # in a tuple, so that it is no submodule

    def __deepcopy__(self, memo: object) -> _OfOneDnn:
        return type(self)(*self._packed_from)


class Bf16Packed(_OfOneDnn):
    """bf16 as a server packs it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.nbytes = linear.weight.nbytes
        self._layer = PackedLinear(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + bias (M, N) for x (M, K)."""
        return self._layer.forward(x)


class OneDnnInt8Linear(_OfOneDnn):
    """oneDNN's int8 GEMM amid eager operations: a scale per row of either side, no transforms.

    The input is u8 with zero point 128: with s8 the library takes its reference loop.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1) / 127
        codes = (weight / scale[:, None]).round_().to(torch.int8)
        self.nbytes = codes.nbytes
        self._codes = torch.ops.onednn.qlinear_prepack(codes, None)
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int64)
        self._bias = None if linear.bias is None else linear.bias.float()

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + bias (M, N) for x (M, K)."""
        s_x = x.abs().amax(1, keepdim=True).float().clamp_(min=1e-30) / 127
        q_x = (x / s_x).round_().add_(128).to(torch.uint8)
        # The scale of a row stands outside the sum, so the library is given 1.
        weight = self._codes, self._scale, self._zero
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            q_x, 1.0, 128, *weight, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y = y.mul_(s_x)
        return (y if self._bias is None else y.add_(self._bias)).to(x.dtype)


def kinds(
    linear: nn.Linear, block: int, with_others: bool, bits: tuple[int, ...] = ()
) -> dict[str, list[nn.Module]]:
    """Return copies of the layer by what executes them, the baseline first: as many as do not fit the cache.

    Args:
        linear: in bf16.
        block: BLOCK.
        with_others: also what is neither bf16 nor ours on compiled kernels.
        bits: of weights, besides 4: `w3` and so on, otherwise what `integer` is.
    """
    spec = LinearSpec(linear.in_features, linear.out_features, block_in=block, block_out=block)
    fake = DuQuantLinear.from_linear(linear, spec)

    def ours(runtime: RuntimeOptions) -> DuQuantLinear:
        return DuQuantLinear.from_state(linear, spec, fake.packed_state()).run_as(runtime)

    is_on_cpu = linear.weight.device.type == "cpu"
    layers: dict[str, nn.Module] = {"bf16": linear}
    if is_on_cpu and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        layers["packed"] = Bf16Packed(linear)
    if with_others:
        layers["fp32"] = copy.deepcopy(linear).float()
        if is_on_cpu and torch.backends.mkldnn.is_available() and try_int8()[0]:  # else it saturates
            layers["onednn"] = OneDnnInt8Linear(linear)
        layers["torch"] = ours(RuntimeOptions(backend=TORCH))
    layers |= {"fake": fake, "integer": ours(RuntimeOptions(Execution.INTEGER))}
    for width in bits:
        other = dataclasses.replace(spec, weight=IntFormat(width))
        layer = DuQuantLinear.from_linear(linear, other).run_as(RuntimeOptions(Execution.INTEGER))
        layers[f"w{width}"] = layer
    return {name: _cold(layer, linear.weight.device, linear.in_features) for name, layer in layers.items()}


def parts(layers: list[nn.Module], x: Tensor) -> dict[str, list[nn.Module]]:
    """Return what the layer's three steps are, alone, each on a result of the step before it."""
    first = layers[0]
    assert isinstance(first, DuQuantLinear)
    operands = first.operands()
    q, s = first.backend.prologue(x, operands)
    acc = first.backend.accumulate(q, operands)
    given = {"prologue": (), "accumulate": (q,), "epilogue": (acc, s)}
    return {name: [Part(layer, name, rest) for layer in layers] for name, rest in given.items()}


class Part(nn.Module):
    """One step of a quantized layer, as a module that is called with the layer's input."""

    def __init__(self, layer: nn.Module, name: str, given: tuple[Tensor, ...]) -> None:
        super().__init__()
        assert isinstance(layer, DuQuantLinear)
        self._operands, self._given = layer.operands(), given
        self._run = getattr(layer.backend, name)

    def forward(self, x: Tensor) -> object:
        """Do the step."""
        if not self._given:
            return self._run(x, self._operands)
        rest = (x.dtype,) if len(self._given) > 1 else ()
        return self._run(*self._given, self._operands, *rest)


def peak_kernel() -> str | None:
    """Return the name of the kernel whose instruction is the roofline: the fastest one of this CPU."""
    return next(iter(library.supported()), None)


def _cold(layer: nn.Module, device: torch.device, in_features: int) -> list[nn.Module]:
    """As many copies as do not fit the cache together."""
    if isinstance(layer, DuQuantLinear):
        # What it unpacks once, its copies have unpacked.
        layer(torch.zeros(1, in_features, device=device))
        held = layer.resident_bytes()
    elif isinstance(layer, nn.Linear):
        held = layer.weight.nbytes
    else:
        assert isinstance(layer, _OfOneDnn)
        held = layer.nbytes
    return [copy.deepcopy(layer) for _ in range(max(2, -(-_COLD_BYTES[device.type] // held)))]
