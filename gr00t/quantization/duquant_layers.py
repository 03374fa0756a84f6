"""A linear layer with 4-bit weights and 8-bit activations: one spec, one forward, any exact accumulator.

    h   = x L^-1 P R                     smoothing, permutation, block rotation, float32
    q_x = round(h / s_x)                 int8; s_x per token, or per input channel and folded into W
    acc = q_x (g c)^T                    integers, exact whatever multiplies them
    y   = (acc * s_x * s_w) U^T + bias   float32, then the dtype of x

The weight exists as packed codes only. Whatever forms `acc`, and whether the execution is called "fake" or
"integer", the bits are the same, so what is evaluated is what would be deployed. Who computes it is one
object, the layer's backend (`kernels.backend`): the fastest that can run, or who is named.

A side whose format is None stays in floating point: a weight alone is dequantized back into the basis of x,
an activation alone is rotated back before the untouched weight multiplies it, and with neither the layer *is*
the linear layer that it replaced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gr00t.quantization.duquant_preprocess import ExactBuffers, Transforms
from gr00t.quantization.kernels import registry
from gr00t.quantization.kernels.backend import Backend, in_cuts
from gr00t.quantization.kernels.operands import FLOATS, LinearOperands
from gr00t.quantization.numerics.older_storage import PACKED, is_older, packed_today
from gr00t.quantization.numerics.quantizers import QuantizedWeight, integer_weight
from gr00t.quantization.numerics.rotations import rotate
from gr00t.quantization.numerics.soundness import check_state, checked_inputs
from gr00t.quantization.numerics.statistics import InputRows, InputStatistics
from gr00t.quantization.numerics.storage import buffer_shapes, load_weight, store_weight, stored_scale_bits
from gr00t.quantization.settings.options import Rounding, RowRotation
from gr00t.quantization.settings.scheme import RuntimeOptions
from gr00t.quantization.settings.spec import LinearSpec
from gr00t.quantization.weight_codes import round_by_inputs, round_to_nearest


class DuQuantLinear(ExactBuffers):
    """A quantized `nn.Linear`. Make one with `DuQuantLinear.from_linear`.

    Buffers, None where the spec does not need them (`storage.buffer_shapes`):
        codes: (N, packed_bytes(K, bits)) uint8 or int8.
        block_scale: (N, packed_bytes(G, 8 - bits)) uint8; G = ceil(K / block_in).
        row_scale: (N, 1) float32.
        act_scale: (K,) float32, ones until calibrated. Static activation scales only.
        calibrated: () bool. Static activation scales only.

    Attributes:
        spec: what this layer is.
        transforms: what its input and output go through, and what its weight went through.
        backend: who computes it.
        is_calibrating: static activation scales are still to come; until then they are dynamic, per token.
        runtime: how it runs; `run_as` changes that.
        damping: share of the mean of its inputs' Hessian that rounding by them took; None: it was not, here.
    """

    codes: Tensor | None
    block_scale: Tensor | None
    row_scale: Tensor | None
    act_scale: Tensor | None
    calibrated: Tensor | None

    def __init__(self, linear: nn.Linear, spec: LinearSpec) -> None:
        device = linear.weight.device
        shapes = buffer_shapes(spec).items()
        made = {name: torch.empty(shape, dtype=dtype, device=device) for name, (shape, dtype) in shapes}
        super().__init__(made)
        self.transforms = Transforms(made)
        self.spec = spec
        self.runtime = RuntimeOptions()
        self.backend = self._choose_backend(device)
        self._restores = spec.row_rotation is not RowRotation.PROPAGATE  # else by the layer that absorbs it
        self._numbers = (
            *(spec.block_in, spec.block_out, spec.activation.bits if spec.activation else 8),
            *((spec.weight.bits, stored_scale_bits(spec.weight)) if spec.weight else (8, 0)),
        )
        self.is_calibrating = spec.static
        self.bias: nn.Parameter | None
        self.register_parameter("bias", linear.bias)
        if spec.weight is None:
            self.weight = linear.weight
        self._unpacked: Tensor | None = None
        # The float weight, and rows to round it by, only until static scales are folded into it.
        self._source: Tensor | None = None
        self._inputs: InputRows | None = None
        self.damping: float | None = None
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
            spec: how; `spec.informed` says whether `statistics` of its input are given, and `spec.rounding`
                whether it is rounded by rows that they hold.
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
        layer.transforms.keep(Transforms.choose(source, spec, statistics, rotation_absorbed))
        if spec.weight is not None:
            inputs = _inputs_to_round_by(spec, statistics)
            if inputs is not None and not spec.static:
                layer._round_by(inputs.load(), source)
            else:  # where scales are still to come all of it is done anew then
                layer._quantize_weight(source)
            if spec.static:
                layer._source, layer._inputs = source, inputs
        return layer

    @classmethod
    def from_state(
        cls,
        linear: nn.Linear,
        spec: LinearSpec,
        state: dict[str, Tensor],
        statistics: InputStatistics | None = None,
    ) -> DuQuantLinear:
        """Restore what `packed_state` returned for the same `linear` and `spec`, without quantizing anything.

        Args:
            linear: the layer.
            spec: how it was quantized.
            state: its buffers.
            statistics: of its input, for when static scales are still to come.

        Raises:
            UnsoundError: it cannot be the state of such a layer (`soundness.check_state`).
        """
        check_state(state, spec)
        state = packed_today(state, spec)
        layer = cls(linear, spec)
        for held in (layer._buffers, layer.transforms._buffers):
            held.update(
                {name: value.to(linear.weight.device) for name, value in state.items() if name in held}
            )
        layer.is_calibrating = layer.calibrated is not None and not bool(layer.calibrated)
        if layer.is_calibrating and spec.weight is not None:
            layer._source = linear.weight.detach()
            layer._inputs = _inputs_to_round_by(spec, statistics)
        return layer

    def run_as(self, runtime: RuntimeOptions) -> DuQuantLinear:
        """Run in this way from now on, to the same bits; return this layer.

        Raises:
            ValueError: it cannot: it has no integers, no kernel is known here that multiplies them, or the
                backend that is named is not here.
        """
        runtime.check(self.spec)
        self.runtime = dataclasses.replace(runtime, kernels=None)  # which a copy of the layer has no use for
        self._unpacked = None
        self.backend = self._choose_backend(self._device())
        return self

    def expect(self, stored: Mapping[str, Tensor]) -> None:
        """Expect these buffers to be loaded as they are stored: empty ones of their shape and dtype take the
        place of the layer's where 0.1.0 stored them otherwise. They are packed as today when they are loaded.
        """
        if is_older(stored, self.spec):
            for name, value in stored.items():
                self._buffers[name] = torch.empty_like(value, device="meta")

    def packed_state(self) -> dict[str, Tensor]:
        """The buffers by name: all that quantization computed, neither bias nor float weight."""
        held = {**self._buffers, **self.transforms._buffers}
        return {name: buffer for name, buffer in held.items() if buffer is not None}

    def forward(self, x: Tensor) -> Tensor:
        """Return `x W^T + bias`, quantized: x (..., K) of any float dtype, result (..., N) of the same.

        inf and nan come out as nan, never as a finite number.

        Raises:
            ValueError: x holds inf or nan, and `runtime.debug` is set.
        """
        spec = self.spec
        if self.runtime.debug and not torch.isfinite(x).all():
            raise ValueError("the input of a quantized layer holds inf or nan")
        if spec.activation is None:
            weight = self.weight if spec.weight is None else self._dequantized(x.dtype)
            return functional.linear(x, weight, self.bias)
        if x.shape[-1] != spec.in_features:
            raise ValueError(f"expected inputs of {spec.in_features} channels, got {tuple(x.shape)}")
        rows = x.reshape(-1, x.shape[-1])
        rows = rows if rows.dtype in FLOATS else rows.float()
        if spec.weight is None:
            y = in_cuts(self._with_float_weight, rows)
        else:
            y = self.backend.linear(rows, self.operands())
        return y.reshape(*x.shape[:-1], spec.out_features).to(x.dtype)

    def _with_float_weight(self, x: Tensor) -> Tensor:
        operands = self.operands()
        q_x, s_x = self.backend.prologue(x, operands)
        h_hat = q_x * s_x if operands.act_scale is None else q_x * s_x * operands.act_scale
        return functional.linear(self.transforms.undo(h_hat).to(self.weight.dtype), self.weight, self.bias)

    def operands(self) -> LinearOperands:
        """Return what a kernel takes of this layer, its codes as the backend wants them."""
        # Not by attributes, which `nn.Module` looks for in three places: this is done at each call.
        held, transforms = self._buffers, self.transforms._buffers
        codes, block_scale, bias = held["codes"], held["block_scale"], self._parameters["bias"]
        numbers = self._numbers
        if codes is not None and not self.backend.takes_packed:
            codes, block_scale, numbers = self._integer_weight(), None, (*numbers[:3], 8, 0)
        return LinearOperands(
            transforms["smoothing"],
            transforms["perm"],
            None if self.is_calibrating else held["act_scale"],
            block_scale,
            held["row_scale"],
            transforms["rotation_first"],
            transforms["rotation_in"],
            transforms["rotation_out"] if self._restores else None,
            codes,
            bias if bias is None or bias.dtype in FLOATS else bias.float(),
            *numbers,
        )

    def rotate_input(self, x: Tensor) -> Tensor:
        """Return `h`, x (M, K) in the basis that is quantized, float32."""
        held = self.transforms._buffers
        first = held["smoothing"], held["perm"], None, None, None, held["rotation_first"], held["rotation_in"]
        operands = LinearOperands(*first, None, None, None, *self._numbers)
        return self.backend.rotate(x if x.dtype in FLOATS else x.float(), operands)

    def fix_scales(self, act_scale: Tensor) -> None:
        """Fix the static activation scales (K,): fold them into the weight, quantize it anew, release its
        float original.
        """
        assert self.act_scale is not None
        assert self.calibrated is not None
        inputs = None if self._inputs is None else self._inputs.load()
        self.act_scale.copy_(act_scale)
        if self._source is not None and inputs is not None:
            self._round_by(inputs, self._source)
        elif self._source is not None:
            self._quantize_weight(self._source)
        self.calibrated.fill_(True)
        self._settle()

    def transient_bytes(self) -> dict[int, int]:
        """Bytes held besides parameters and buffers, by tensor id: unpacked weight, float original."""
        return {id(held): held.nbytes for held in (self._unpacked, self._source) if held is not None}

    def resident_bytes(self) -> int:
        """Bytes this layer holds now, an unpacked weight and a float original included."""
        held = sum(tensor.nbytes for tensor in [*self.parameters(), *self.buffers()])
        return held + sum(self.transient_bytes().values())

    def __repr__(self) -> str:
        """Show the shape, the spec and what multiplies the codes."""
        shape = f"{self.spec.in_features}->{self.spec.out_features}"
        return f"DuQuantLinear({shape} {self.spec} acc={self.backend.accumulator})"

    def _quantize_weight(self, source: Tensor) -> None:
        parts = round_to_nearest(source, self.spec, self.transforms, self.act_scale)
        for rows, weight in parts:
            self._store(rows, weight)

    def _round_by(self, inputs: Tensor, source: Tensor) -> None:
        """Quantize the weight with error feedback, by rows (M, K) that the layer is called with."""
        x = checked_inputs(inputs, self.spec.in_features).to(source.device).float()
        if self.transforms.rotation_absorbed is not None:
            x = rotate(x, self.transforms.rotation_absorbed)
        h = self.rotate_input(x)
        weight, self.damping = round_by_inputs(source, self.spec, self.transforms, self.act_scale, h)
        self._store(slice(None), weight)

    def _store(self, rows: slice, weight: QuantizedWeight) -> None:
        assert self.spec.weight is not None
        for name, value in store_weight(weight, self.spec.weight).items():
            buffer = self._buffers[name]
            if buffer is not None:
                buffer[rows] = value
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
        return self._keep(self.transforms.unfuse(fused).to(dtype))

    def _keep(self, weight: Tensor) -> Tensor:
        if self.runtime.precache_weights:
            self._unpacked = weight
        return weight

    def _settle(self) -> None:
        """Calibration is over: what only it needed goes."""
        self.is_calibrating = False
        self._source = self._inputs = None

    def _apply(self, fn: Any, recurse: bool = True) -> DuQuantLinear:
        super()._apply(fn, recurse)
        if self._source is not None:
            self._source = self._source.to(fn(self._source).device)
        self._arrive()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.transforms._buffers:  # they stand beside the layer's own
            if prefix + name in state_dict:
                state_dict[f"{prefix}transforms.{name}"] = state_dict.pop(prefix + name)
        packed = {name: state_dict[prefix + name] for name in PACKED if prefix + name in state_dict}
        if is_older(packed, self.spec):
            device = self._device()
            for name, value in packed_today(packed, self.spec).items():
                state_dict[prefix + name] = value
                self._buffers[name] = torch.empty_like(value, device=device)  # in place of what was expected
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._arrive()  # what was on meta may be somewhere now
        if self.calibrated is not None and bool(self.calibrated):
            self._settle()

    def _arrive(self) -> None:
        """The tensors may be others, and elsewhere."""
        self._unpacked = None
        if self.row_scale is not None:
            self.backend = self._choose_backend(self.row_scale.device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Choose anew who computes: the process that reads a pickle may have other kernels."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        device = self._device()
        if not registry.is_there(self.backend, device):
            self.backend = self._choose_backend(device)

    def check_backend(self) -> None:
        """Check that what computes can do so where the layer is, which is where it stays.

        Raises:
            ValueError: a kernel was asked for by name that cannot; those that can are named.
        """
        registry.check_stays(self.backend, self._device())

    def _choose_backend(self, device: torch.device) -> Backend:
        return registry.choose_backend(device, self.runtime.execution, self.runtime.backend)

    def _device(self) -> torch.device:
        """Where it is."""
        held = (self.row_scale, self.act_scale, *self.parameters())
        return next(tensor.device for tensor in held if tensor is not None)


def _inputs_to_round_by(spec: LinearSpec, statistics: InputStatistics | None) -> InputRows | None:
    """Return the rows that a layer of `spec` is rounded by, of those that `statistics` hold.

    Raises:
        ValueError: there are none.
    """
    if spec.rounding is not Rounding.FEEDBACK:
        return None
    if statistics is None or statistics.inputs is None:
        raise ValueError("the spec has rounding=feedback, but no inputs to round by are there")
    return statistics.inputs
