"""What is asked of linear layers, whatever their shapes, and how a model is to run that has them.

A `LinearScheme` says how to quantize. What becomes of one layer by it is that layer's `LinearSpec`; what has
been decided about every layer of a model, its `LayerPlan`. `RuntimeOptions` change no number and are in no
hash. Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gr00t.files.home import expanded
from gr00t.quantization.settings.options import (
    BACKENDS,
    Execution,
    Rotation,
    Rounding,
    RowRotation,
    WeightScale,
)
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from gr00t.spelling import did_you_mean

# Formats of single layers by name; None is floating point.
FormatByLayer = Mapping[str, IntFormat | None] | tuple[tuple[str, IntFormat | None], ...]


@dataclasses.dataclass(frozen=True)
class LinearScheme:
    """How linear layers are to be quantized. A ValueError names what cannot be.

    Attributes:
        weight: code format, or None: weights stay in floating point, exactly.
        activation: likewise, for the inputs.
        block: input channels that share one rotation and one weight scale.
        block_out: output channels that share one rotation; `block` where it is None.
        weight_scale: BLOCK: a float scale per output row times an integer per block; CHANNEL: per row alone.
        permute: deal the input channels over the blocks in snake order of their peaks.
        rotation: kind of the block rotations.
        row_rotation: RESTORE undoes the output rotation; PROPAGATE leaves it to the next layer where that is
            exact, and undoes it elsewhere; NONE: there is none.
        smoothing: migration strength of the smoothing diagonal, in [0, 1]; no effect without statistics.
        rounding: FEEDBACK makes up for what a weight loses by those after it, where statistics hold rows of
            the layer's input, and is NEAREST elsewhere.
        calibration_steps: calls of the model pooled into static activation scales; 0: per-token scales.
        act_percentile: percentile of |x| that a static scale covers, in [50, 100].
        weight_by_layer: other weight formats of single layers: (name, format), where `*` stands for any part
            of a name, and a name that is written out comes before one with `*`. A dict of them is taken,
            too, and kept as pairs.
        activation_by_layer: likewise, of the inputs of single layers.
    """

    weight: IntFormat | None = IntFormat(4)  # noqa: RUF009  (it is frozen)
    activation: IntFormat | None = IntFormat(8)  # noqa: RUF009
    block: int = 16
    block_out: int | None = None
    weight_scale: WeightScale = WeightScale.BLOCK
    permute: bool = True
    rotation: Rotation = Rotation.HADAMARD  # the best by measurement: docs/QUALITY.md, section 3
    row_rotation: RowRotation = RowRotation.RESTORE
    smoothing: float = 0.15
    rounding: Rounding = Rounding.FEEDBACK
    calibration_steps: int = 32
    act_percentile: float = 99.9
    weight_by_layer: FormatByLayer = ()
    activation_by_layer: FormatByLayer = ()

    def __post_init__(self) -> None:
        for field in ("weight_by_layer", "activation_by_layer"):
            object.__setattr__(self, field, _as_pairs(field, getattr(self, field)))
        self.spec_for(1, 1)  # which refuses what no layer can be

    def spec_for(self, in_features: int, out_features: int, *names: str) -> LinearSpec:
        """Return what this scheme makes of a layer by itself, without neighbours and statistics.

        Args:
            in_features: of the layer.
            out_features: of the layer.
            names: of the layer, for `weight_by_layer` and `activation_by_layer`.
        """
        weight = _format_of_layer(self.weight_by_layer, names, self.weight)
        activation = _format_of_layer(self.activation_by_layer, names, self.activation)
        return LinearSpec(
            in_features=in_features,
            out_features=out_features,
            weight=weight,
            activation=activation,
            block_in=self.block,
            block_out=self.block if self.block_out is None else self.block_out,
            weight_scale=self.weight_scale,
            permute=self.permute,
            rotation=self.rotation,
            row_rotation=self.row_rotation,
            smoothing=self.smoothing,
            rounding=Rounding.NEAREST if weight is None else self.rounding,
            calibration_steps=0 if activation is None else self.calibration_steps,
            act_percentile=self.act_percentile,
        )


def _as_pairs(field: str, formats: FormatByLayer) -> tuple[tuple[str, IntFormat | None], ...]:
    try:
        by_layer = dict(formats)
    except (TypeError, ValueError):
        by_layer = None
    if by_layer is None or not all(
        isinstance(name, str) and isinstance(side, (IntFormat, type(None))) for name, side in by_layer.items()
    ):
        raise ValueError(
            f"{field}={formats!r}: expected names of layers, each with an IntFormat or None, as "
            '{"lm_head": IntFormat(8)}'
        )
    return tuple(by_layer.items())


def _format_of_layer(
    formats: FormatByLayer, names: Sequence[str], default: IntFormat | None
) -> IntFormat | None:
    """The format of the layer that has these names: by a name that is written out, else by a pattern."""
    by_layer = dict(formats)
    for name in names:
        if name in by_layer:
            return by_layer[name]
    for pattern, side in by_layer.items():
        if any(fnmatchcase(name, pattern) for name in names):
            return side
    return default


@dataclasses.dataclass(frozen=True)
class RuntimeOptions:
    """How a quantized model runs, and what is kept and told of it. No bit of an answer depends on it.

    A ValueError names what cannot be.

    Attributes:
        execution: how codes are multiplied; its name as text is taken, too.
        kernels: environment variables whose compiler and cache the CPU kernels come from; None: only kernels
            that this process has loaded already (`kernels.library.load`).
        pack_dir: folder that keeps the quantized layers, and statistics of their inputs, for the next time;
            text is taken, too, and `~` is the home folder.
        precache_weights: keep one unpacked weight per layer, where a kernel does not read the packed codes.
        debug: refuse inf and nan in the input of a layer.
        profile: time the stages of every layer, logged at exit.
        profile_sync: wait for the device around each timed stage.
        backend: who computes a layer, one of `BACKENDS`; None: the fastest that can run. To compare two.
    """

    execution: Execution = Execution.FAKE
    kernels: Mapping[str, str] | None = None
    pack_dir: Path | None = None
    precache_weights: bool = True
    debug: bool = False
    profile: bool = False
    profile_sync: bool = False
    backend: str | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "execution", Execution(self.execution))
        except ValueError:
            known = did_you_mean(str(self.execution), (option.value for option in Execution))
            raise ValueError(f"execution={self.execution!r}: {known}") from None
        if self.backend is not None and self.backend not in BACKENDS:
            raise ValueError(f"backend={self.backend!r}: {did_you_mean(str(self.backend), BACKENDS)}")
        if self.pack_dir is not None:
            if not isinstance(self.pack_dir, (str, Path)):
                raise ValueError(f"pack_dir={self.pack_dir!r}: expected the path of a folder, or None")
            object.__setattr__(self, "pack_dir", expanded(self.pack_dir))
        if not isinstance(self.kernels, (Mapping, type(None))):
            raise ValueError(
                f"kernels={self.kernels!r}: expected environment variables, as os.environ, or None"
            )
        for name in ("precache_weights", "debug", "profile", "profile_sync"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name}={value!r}: expected true or false")

    def check(self, spec: LinearSpec) -> None:
        """Refuse a layer that cannot run so.

        Raises:
            ValueError: it is to multiply integers, and has none.
        """
        if self.execution is Execution.INTEGER and None in (spec.weight, spec.activation):
            raise ValueError(
                f"EXECUTION=integer needs weights and activations of 2 to 8 bits, got {spec.bits}; "
                "use EXECUTION=fake for a side in floating point"
            )
