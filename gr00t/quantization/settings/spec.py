"""What one quantized linear layer is, apart from its numbers: everything that may influence a result, and
nothing else.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

from gr00t.quantization.settings.options import Rotation, Rounding, RowRotation, WeightScale
from gr00t.spelling import shown

# What the variables BLOCK and CALIB_STEPS may be set to. A manifest may hold nothing else either.
LARGEST_BLOCK = 4096
MOST_CALIBRATION_STEPS = 1_000_000
# An int32 accumulator holds K products of two int8 below this K.
_TOO_MANY_INPUTS = 2**31 // (128 * 128)


@dataclasses.dataclass(frozen=True)
class IntFormat:
    """Signed integers of `bits` bits: codes in [qmin, qmax]; symmetric, so the zero point is 0 and absent."""

    bits: int

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= 8:
            raise ValueError(f"IntFormat of {self.bits!r} bits: expected 2 to 8")

    @property
    def qmax(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1

    @property
    def qmin(self) -> int:
        """Smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def largest_block_scale(self) -> int:
        """Largest integer `g` with `g * |code| <= 128`, so that `g * code` is an int8: 16 for 4 bits, 1 for
        8.
        """
        return 128 // -self.qmin


def format_of(bits: int | None) -> IntFormat | None:
    """Return the format of so many bits; None, floating point, is None."""
    return None if bits is None else IntFormat(bits)


def bits_of(side: IntFormat | None) -> int | None:
    """Return the bits of a format; None, floating point, has None."""
    return None if side is None else side.bits


@dataclasses.dataclass(frozen=True)
class LinearSpec:
    """The quantization of one `nn.Linear(in_features, out_features)`. A ValueError names what cannot be.

    Attributes:
        weight: code format, or None: the weight stays in floating point, exactly.
        activation: likewise, for the input.
        row_rotation: RESTORE undoes the output rotation, PROPAGATE leaves it to the layer that absorbs it.
        absorbs: whether the input arrives rotated, in blocks of block_out, and the weight makes up for it.
        smoothing: migration strength of the smoothing diagonal; without effect unless `informed`.
        informed: whether statistics of the layer's input were recorded to choose the transforms by.
        rounding: FEEDBACK where codes were chosen by rows of the layer's input.
        calibration_steps: requests pooled into static activation scales; 0: dynamic per-token scales.
    """

    in_features: int
    out_features: int
    weight: IntFormat | None = IntFormat(4)
    activation: IntFormat | None = IntFormat(8)
    block_in: int = 16
    block_out: int = 16
    weight_scale: WeightScale = WeightScale.BLOCK
    permute: bool = True
    rotation: Rotation = Rotation.HADAMARD
    row_rotation: RowRotation = RowRotation.RESTORE
    absorbs: bool = False
    smoothing: float = 0.0
    informed: bool = False
    calibration_steps: int = 0
    act_percentile: float = 99.9
    rounding: Rounding = Rounding.NEAREST

    def __post_init__(self) -> None:
        if type(self.in_features) is int and self.in_features >= _TOO_MANY_INPUTS:
            raise ValueError(
                f"in_features={self.in_features} overflows an int32 accumulator: at most {2**17 - 1}"
            )
        whole = {
            "in_features": (1, _TOO_MANY_INPUTS - 1),
            "out_features": (1, 2**31 - 1),
            "block_in": (1, LARGEST_BLOCK),
            "block_out": (1, LARGEST_BLOCK),
            "calibration_steps": (0, MOST_CALIBRATION_STEPS),
        }
        for name, (low, high) in whole.items():
            if type(value := getattr(self, name)) is not int or not low <= value <= high:
                raise ValueError(f"{name}={shown(value, 60)}: expected a whole number from {low} to {high}")
        for name, (low, high) in {"smoothing": (0, 1), "act_percentile": (50, 100)}.items():
            if type(value := getattr(self, name)) not in (int, float) or not low <= value <= high:
                raise ValueError(f"{name}={shown(value, 60)}: expected a number from {low} to {high}")
        for name, kind in _KINDS.items():
            if not isinstance(value := getattr(self, name), kind):
                raise ValueError(f"{name}={shown(value, 60)}: expected {_expected(kind)}")
        if self.static and self.activation is None:
            raise ValueError(
                f"calibration_steps={self.calibration_steps}: activations in floating point have no scales"
            )

    @property
    def bits(self) -> str:
        """`W4 A8` and the like; 16 stands for floating point."""
        weight, activation = (side.bits if side else 16 for side in (self.weight, self.activation))
        return f"W{weight} A{activation}"

    @property
    def static(self) -> bool:
        """Whether activation scales are pooled per input channel and folded into the weight."""
        return self.calibration_steps > 0

    @property
    def smooths(self) -> bool:
        """Whether a smoothing diagonal is applied."""
        return self.informed and self.smoothing > 0

    @property
    def output_rotation(self) -> Rotation:
        """Kind of the output-side rotation: Hadamard's with `duquant`, whose paper rotates inputs only."""
        return Rotation.HADAMARD if self.rotation is Rotation.DUQUANT else self.rotation

    @property
    def rotates_rows(self) -> bool:
        """Whether an output-side rotation is applied."""
        return self.row_rotation is not RowRotation.NONE and self.rotation is not Rotation.NONE

    def __str__(self) -> str:
        return (
            f"{self.bits} perm={self.permute} block_in={self.block_in} block_out={self.block_out} "
            f"row_rot={self.row_rotation.value}"
        )


_KINDS: dict[str, Any] = {
    "weight": (IntFormat, type(None)),
    "activation": (IntFormat, type(None)),
    "weight_scale": WeightScale,
    "permute": bool,
    "rotation": Rotation,
    "row_rotation": RowRotation,
    "absorbs": bool,
    "rounding": Rounding,
    "informed": bool,
}


def _expected(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    return "true or false" if kind is bool else "a format of 2 to 8 bits, or none"
