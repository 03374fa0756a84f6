"""A linear layer with 4-bit weights and 8-bit activations: one spec, one forward, any exact accumulator.

    h   = x L^-1 P R                     smoothing, permutation, block rotation, float32
    q_x = round(h / s_x)                 int8; s_x per token, or per input channel and folded into W
    acc = q_x (g c)^T                    integers, exact whatever multiplies them
    y   = (acc * s_x * s_w) U^T + bias   float32, then the dtype of x

The weight exists as packed codes only. "Fake" and "integer" execution differ in the instructions that form
`acc` and in nothing else, so what is evaluated is what would be deployed, bit for bit. What comes before and
after the sums is PyTorch's operations or, on a CPU and on a GPU with Triton, one compiled function each;
integer execution there is one call for all of it.

A side whose format is None stays in floating point: a weight alone is dequantized back into the basis of x,
an activation alone is rotated back before the untouched weight multiplies it, and with neither the layer *is*
the linear layer that it replaced.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gr00t.quantization.duquant_preprocess import Transforms
from gr00t.quantization.kernels import library, operators
from gr00t.quantization.kernels.accumulate import ACCUMULATORS
from gr00t.quantization.kernels.arguments import (
    front_arguments,
    rear_arguments,
    transform_arguments,
    weight_arguments,
)
from gr00t.quantization.kernels.availability import kernels_for
from gr00t.quantization.kernels.choice import TORCH, choose_accumulator, choose_transforms
from gr00t.quantization.kernels.search import quantize_weight
from gr00t.quantization.numerics.observers import PooledPercentile
from gr00t.quantization.numerics.ordered_rotation import rotate_back_in_order
from gr00t.quantization.numerics.quantizers import integer_weight, quantize, scale_for
from gr00t.quantization.numerics.soundness import check_state, static_scale
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.numerics.storage import BUFFERS, buffer_shapes, load_weight, store_weight
from gr00t.quantization.settings.options import Execution, RowRotation
from gr00t.quantization.settings.spec import IntFormat, LinearSpec

# Weights are quantized in runs of rows whose temporaries stay in the cache: a third of the time.
_CHUNK_ELEMENTS = 1 << 18

# Long inputs are cut: the temporaries of thousands of tokens would not stay in the cache.
_ROWS_AT_A_TIME = 768


class DuQuantLinear(nn.Module):
    """A quantized `nn.Linear`. Make one with `DuQuantLinear.from_linear`.

    Buffers, None where the spec does not need them (`storage.buffer_shapes`):
        codes: (N, ceil(K / 2)) uint8, two per byte, up to 4 bits; (N, K) int8 above.
        block_scale: (N, ceil(G / 2)) uint8 or (N, G) uint8; G = ceil(K / block_in).
        row_scale: (N, 1) float32.
        smoothing: (K,) float32.
        perm: (K,) int32.
        rotation_absorbed, rotation_first, rotation_in, rotation_out: (blocks or 1, B, B) float32, whatever
            the model is cast to.
        act_scale: (K,) float32, ones until calibrated. Static activation scales only.
        calibrated: () bool. Static activation scales only.

    Attributes:
        spec: what this layer is.
        accumulator: name of what multiplies the codes: in `kernels.accumulate.ACCUMULATORS`, or a compiled
            kernel in `kernels.library.loaded()`, or "triton".
        transformer: name of what transforms and quantizes inputs and scales and restores outputs: "torch", or
            a compiled kernel.
        is_calibrating: static activation scales are still to come; until then they are dynamic, per token.
        keep_unpacked: keep one unpacked weight between calls.
        refuse_nonfinite: raise on inf and nan in the input, at the price of looking.
    """

    codes: Tensor | None
    block_scale: Tensor | None
    row_scale: Tensor | None
    rotation_absorbed: Tensor | None
    smoothing: Tensor | None
    rotation_first: Tensor | None
    perm: Tensor | None
    rotation_in: Tensor | None
    rotation_out: Tensor | None
    act_scale: Tensor | None
    calibrated: Tensor | None

    def __init__(self, linear: nn.Linear, spec: LinearSpec) -> None:
        super().__init__()
        self.spec = spec
        self.is_calibrating = spec.static
        self.keep_unpacked = True
        self.refuse_nonfinite = False
        self._choose_kernels(linear.weight.device)
        self.bias = linear.bias
        if spec.weight is None:
            self.weight = linear.weight
        self._observer: PooledPercentile | None = None
        self._unpacked: Tensor | None = None
        self._source: Tensor | None = None  # the float weight, only until static scales are folded into it
        shapes = buffer_shapes(spec)
        for name in BUFFERS:
            buffer = None
            if name in shapes:
                shape, dtype = shapes[name]
                buffer = torch.empty(shape, dtype=dtype, device=linear.weight.device)
            self.register_buffer(name, buffer)
        if self.act_scale is not None and self.calibrated is not None:
            self.act_scale.fill_(1)
            self.calibrated.fill_(False)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        spec: LinearSpec,
        statistics: InputStatistics | None = None,
        rotation_absorbed: Tensor | None = None,
    ) -> DuQuantLinear:
        """Quantize `linear`, whose weight is only read.

        Args:
            linear: the layer.
            spec: how; `spec.informed` says whether `statistics` of its input are given.
            statistics: what its transforms are chosen by.
            rotation_absorbed: what its input arrives rotated by, where `spec.absorbs`.

        Raises:
            ValueError: the spec is for another shape, or the weight holds inf or nan.
        """
        shape = (spec.out_features, spec.in_features)
        if tuple(linear.weight.shape) != shape:
            raise ValueError(f"the spec is for a weight {shape}, got {tuple(linear.weight.shape)}")
        # The extremes alone: nan shows in both, inf in one, and no mask of the weight's size is made.
        if not all(map(torch.isfinite, linear.weight.aminmax())):
            raise ValueError("the weight holds inf or nan; a quantized layer would hide it")
        layer = cls(linear, spec)
        if spec.activation is None and spec.weight is None:
            return layer
        source = linear.weight.detach()
        transforms = Transforms.choose(source, spec, statistics, rotation_absorbed)
        for field in dataclasses.fields(transforms):
            buffer = layer._buffers[field.name]
            if buffer is not None:
                buffer.copy_(getattr(transforms, field.name))
        if spec.weight is not None:
            layer._quantize_weight(source)
            layer._source = source if spec.static else None
        return layer

    @classmethod
    def from_state(cls, linear: nn.Linear, spec: LinearSpec, state: dict[str, Tensor]) -> DuQuantLinear:
        """Restore what `packed_state` returned for the same `linear` and `spec`, without quantizing anything.

        Raises:
            UnsoundError: it cannot be the state of such a layer (`soundness.check_state`).
        """
        check_state(state, spec)
        layer = cls(linear, spec)
        for name, value in state.items():
            layer._buffers[name] = value.to(linear.weight.device)
        layer.is_calibrating = layer.calibrated is not None and not bool(layer.calibrated)
        if layer.is_calibrating and spec.weight is not None:
            layer._source = linear.weight.detach()
        return layer

    def packed_state(self) -> dict[str, Tensor]:
        """The buffers by name: all that quantization computed, neither bias nor float weight."""
        return {name: buffer for name, buffer in self._buffers.items() if buffer is not None}

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + bias`, quantized: x (..., K) of any float dtype, result (..., N) of the same.

        inf and nan come out as nan, never as a finite number.

        Raises:
            ValueError: x holds inf or nan, and `refuse_nonfinite` is set.
        """
        if self.refuse_nonfinite and not torch.isfinite(x).all():
            raise ValueError("the input of a quantized layer holds inf or nan")
        if self.spec.activation is None:
            weight = self.weight if self.spec.weight is None else self._dequantized(x.dtype)
            return functional.linear(x, weight, self.bias)
        if x.shape[-1] != self.spec.in_features:
            raise ValueError(f"expected inputs of {self.spec.in_features} channels, got {tuple(x.shape)}")
        rows = x.reshape(-1, x.shape[-1])
        if self.transformer != TORCH and rows.dtype not in operators.DTYPES:
            rows = rows.float()
        if self.spec.weight is not None and self.accumulator == self.transformer:
            if self._observer is not None:
                self._observer.observe(self.rotate_input(rows))
            y = self.whole_layer(rows)
        else:
            cuts = rows.tensor_split(max(1, -(-len(rows) // _ROWS_AT_A_TIME)))
            parts = [self._forward_rows(cut, self.spec.activation) for cut in cuts]
            y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return y.reshape(*x.shape[:-1], self.spec.out_features).to(x.dtype)

    def _forward_rows(self, x: Tensor, fmt: IntFormat) -> Tensor:
        if self.transformer == TORCH or self._observer is not None:
            h = self.rotate_input(x)
            if self._observer is not None:
                self._observer.observe(h)
        q_x, s_x = self.quantize_input(h, fmt) if self.transformer == TORCH else self.quantize_rows(x)
        if self.spec.weight is None:
            h_hat = q_x * s_x if self.act_scale is None else q_x * s_x * self.act_scale
            return functional.linear(
                self._transforms().undo(h_hat).to(self.weight.dtype), self.weight, self.bias
            )
        assert self.row_scale is not None
        acc = self.accumulate(q_x)
        if self.transformer != TORCH:
            return self.finish_rows(acc, s_x, x.dtype)
        # In place: a fresh tensor of some megabytes costs more in page faults than its arithmetic.
        y = self.restore_output(acc.float().mul_(s_x).mul_(self.row_scale.T))
        return (y if self.bias is None else y.add_(self.bias)).to(x.dtype)

    def whole_layer(self, x: Tensor) -> Tensor:
        """Return y (M, N) for x (M, K) by one call of a compiled kernel, to the bits of its parts."""
        front = front_arguments(self._buffers, self.spec, self.is_calibrating)
        weight = weight_arguments(self._buffers, self.spec)
        rear = rear_arguments(self._buffers, self.spec, self.bias)
        return torch.ops.gr00t_duquant.linear(x, *front, *weight, *rear, self.transformer)

    def quantize_rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`quantize_input` of `rotate_input` by one call of a compiled kernel."""
        front = front_arguments(self._buffers, self.spec, self.is_calibrating)
        return torch.ops.gr00t_duquant.front(x, *front, self.transformer)

    def finish_rows(self, acc: Tensor, s_x: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale, restore and bias the sums (M, N) by one call of a compiled kernel."""
        rear = rear_arguments(self._buffers, self.spec, self.bias)
        return torch.ops.gr00t_duquant.rear(acc, s_x, *rear, dtype, self.transformer)

    def rotate_input(self, x: Tensor) -> Tensor:
        """Return `h`, x (M, K) in the basis that is quantized, float32."""
        if self.transformer == TORCH:
            return self._transforms().apply(x)
        arguments = transform_arguments(self._buffers, self.spec)
        return torch.ops.gr00t_duquant.rotate(x, *arguments, self.transformer)

    def quantize_input(self, h: Tensor, fmt: IntFormat) -> tuple[Tensor, Tensor]:
        """Return the codes (M, K) int8 of `h` (M, K) and the scale (M, 1) float32 outside the sum."""
        peak = torch.maximum(h.amax(dim=1, keepdim=True), -h.amin(dim=1, keepdim=True))
        if self.act_scale is None or self.is_calibrating:
            s_x = scale_for(peak, fmt)
            return (h / s_x).round_().to(torch.int8), s_x  # nothing to clip: the scale is the peak's
        # A static scale saturates: a row with inf or nan must not come out as finite numbers.
        s_x = torch.where(torch.isfinite(peak), 1.0, torch.nan)
        return quantize(h, self.act_scale, fmt), s_x

    def accumulate(self, q_x: Tensor) -> Tensor:
        """Return `acc` (M, N) int32, exact."""
        if self.accumulator in ACCUMULATORS:
            return ACCUMULATORS[self.accumulator](q_x, self._integer_weight())
        weight = weight_arguments(self._buffers, self.spec)
        return torch.ops.gr00t_duquant.accumulate(q_x, *weight, self.spec.block_in, self.accumulator)

    def restore_output(self, y: Tensor) -> Tensor:
        """Return `y U^T`, (M, N) float32: the output in its own basis, unless another layer absorbs U."""
        if self.rotation_out is None or self.spec.row_rotation is RowRotation.PROPAGATE:
            return y
        return rotate_back_in_order(y, self.rotation_out)

    def start_calibration(self, observer: PooledPercentile) -> None:
        """Let `observer` see every rotated input from now on."""
        self._observer = observer

    def finish_calibration(self) -> bool:
        """Fix the static scales, fold them into the weight, quantize it anew, release its float original.

        Returns:
            False where no input was ever seen: the layer then keeps dynamic per-token scales.

        Raises:
            UnsoundError: inputs were seen that allow no scales, inf or nan.
        """
        observer, self._observer = self._observer, None
        if observer is None or not observer.rows:
            return False
        assert self.act_scale is not None
        assert self.calibrated is not None
        assert self.spec.activation is not None
        self.act_scale.copy_(static_scale(observer.result(), self.spec.activation))
        if self._source is not None:
            self._quantize_weight(self._source)
        self.calibrated.fill_(True)
        self._settle()
        return True

    def transient_bytes(self) -> dict[int, int]:
        """Bytes held besides parameters and buffers, by tensor id: unpacked weight, float original."""
        return {id(held): held.nbytes for held in (self._unpacked, self._source) if held is not None}

    def resident_bytes(self) -> int:
        """Bytes this layer holds now, an unpacked weight and a float original included."""
        held = sum(tensor.nbytes for tensor in [*self.parameters(), *self.buffers()])
        return held + sum(self.transient_bytes().values())

    def extra_repr(self) -> str:
        """Show the shape, the spec and what multiplies the codes."""
        return f"{self.spec.in_features}->{self.spec.out_features} {self.spec} acc={self.accumulator}"

    def _transforms(self) -> Transforms:
        return Transforms(
            **{field.name: self._buffers[field.name] for field in dataclasses.fields(Transforms)}
        )

    def _quantize_weight(self, source: Tensor) -> None:
        fmt, block = self.spec.weight, self.spec.block_out
        assert fmt is not None
        transforms = self._transforms()
        rows = max(1, _CHUNK_ELEMENTS // self.spec.in_features // block) * block
        for first in range(0, self.spec.out_features, rows):
            fused = transforms.fuse(source[first : first + rows], first)
            if self.act_scale is not None:
                fused *= self.act_scale
            weight = quantize_weight(fused, fmt, self.spec.block_in, self.spec.weight_scale)
            for name, value in store_weight(weight, fmt).items():
                buffer = self._buffers[name]
                if buffer is not None:
                    buffer[first : first + rows] = value
        self._unpacked = None

    def _integer_weight(self) -> Tensor:
        """`block_scale * code`, (N, K) int8."""
        if self._unpacked is not None:
            return self._unpacked
        assert self.codes is not None
        assert self.row_scale is not None
        codes, block_scale, _ = load_weight(self.codes, self.block_scale, self.row_scale, self.spec)
        if codes is self.codes and self.block_scale is None:
            return codes  # stored as it is multiplied: nothing to keep
        return self._keep(integer_weight(codes, block_scale, self.spec.block_in))

    def _dequantized(self, dtype: torch.dtype) -> Tensor:
        """The quantized weight in the basis of x, (N, K): every transform is folded, none is left online."""
        if self._unpacked is not None and self._unpacked.dtype == dtype:
            return self._unpacked
        assert self.codes is not None
        assert self.row_scale is not None
        codes, block_scale, row_scale = load_weight(self.codes, self.block_scale, self.row_scale, self.spec)
        fused = integer_weight(codes, block_scale, self.spec.block_in).double() * row_scale.double()
        return self._keep(self._transforms().unfuse(fused).to(dtype))

    def _keep(self, weight: Tensor) -> Tensor:
        if self.keep_unpacked:
            self._unpacked = weight
        return weight

    def _choose_kernels(self, device: torch.device) -> None:
        native, why_not = kernels_for(device)
        execution = self.spec.execution
        self.accumulator, self.accumulator_reason = choose_accumulator(
            device, execution is not Execution.FAKE, native, why_not, or_else=execution is Execution.AUTO
        )
        self.transformer, self.transformer_reason = choose_transforms(device, native, why_not)

    def _settle(self) -> None:
        """Calibration is over: what only it needed goes."""
        self.is_calibrating = False
        self._observer = self._source = None

    def _apply(self, fn: Any, recurse: bool = True) -> DuQuantLinear:
        """Move with the model, in float32 still: a rotation in bfloat16 is not orthogonal."""
        exact = self.packed_state()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in exact.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        if self._source is not None:
            self._source = self._source.to(fn(self._source).device)
        if self.row_scale is not None:
            self._choose_kernels(self.row_scale.device)
        self._unpacked = None
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._unpacked = None
        if self.row_scale is not None:
            self._choose_kernels(self.row_scale.device)  # what was on meta may have arrived somewhere
        if self.calibrated is not None and bool(self.calibrated):
            self._settle()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Choose anew what multiplies: the process that reads a pickle may have other kernels."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        held = self.row_scale if self.row_scale is not None else self.act_scale
        device = held.device if held is not None else torch.device("cpu")
        there = kernels_for(device)[0] if device.type == "cuda" else library.loaded()
        if not {self.accumulator, self.transformer} <= {*ACCUMULATORS, TORCH, *there}:
            self._choose_kernels(device)
