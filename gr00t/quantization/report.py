"""What quantization did to a model, as measured: kept by the policy, logged, and sent to clients who ask."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, Protocol, runtime_checkable

from torch import nn

from gr00t.quantization.calibration.online import OnlineCalibration
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.settings.environment import DuQuantConfig
from gr00t.quantization.settings.options import Rounding


@runtime_checkable
class HoldsMore(Protocol):
    """A module that holds tensors besides its parameters and buffers, a `DuQuantLinear` for one."""

    def transient_bytes(self) -> dict[int, int]:
        """Bytes of each, by tensor id."""
        ...


@dataclasses.dataclass
class DuQuantReport:
    """The quantized layers of one model.

    Attributes:
        config: the settings used.
        layers: the quantized layers by module name, in model order.
        linear_bytes_before: bytes of the linears that they replaced.
        model_bytes_before: bytes of all parameters and buffers of the model before.
        model: the model.
        packed: how many layers were read from PACKDIR instead of being quantized anew.
        online_calibration: what pools the first requests for static activation scales, until it has them.
        artefact: of a model that was loaded quantized: where its layers come from, as plain data.
        layers_sha256: of everything that quantization computed: another weight, setting, calibration or
            arithmetic is another hash. It changes once, when static scales are fixed from served requests.
        calibration_sha256: of what calibration.json beside the packs said, None where there was none.
    """

    config: DuQuantConfig
    layers: dict[str, DuQuantLinear]
    linear_bytes_before: int
    model_bytes_before: int
    model: nn.Module
    packed: int = 0
    online_calibration: OnlineCalibration | None = None
    artefact: dict[str, Any] | None = None
    layers_sha256: str | None = None
    calibration_sha256: str | None = None

    @property
    def pools_requests(self) -> bool:
        """Whether calls of the model are still counted, one as one request, and pooled."""
        return self.online_calibration is not None

    @property
    def bits(self) -> dict[str, str]:
        """What the layers were quantized to, as `LinearSpec.bits` says it, by name."""
        return {name: layer.spec.bits for name, layer in self.layers.items()}

    @property
    def informed(self) -> int:
        """How many layers were quantized by recorded statistics of their inputs."""
        return sum(layer.spec.informed for layer in self.layers.values())

    @property
    def rounded_with_feedback(self) -> int:
        """How many layers were rounded by rows of their inputs, or will be, when static scales are fixed."""
        return sum(layer.spec.rounding is Rounding.FEEDBACK for layer in self.layers.values())

    @property
    def linear_bytes(self) -> int:
        """Bytes that the quantized layers hold now."""
        return sum(layer.resident_bytes() for layer in self.layers.values())

    @property
    def model_bytes(self) -> int:
        """Bytes that the whole model holds now."""
        return model_bytes(self.model)

    def check_backends(self) -> None:
        """Check, once the model is where it stays, that every layer can be computed there.

        Raises:
            ValueError: a kernel was asked for by name that cannot; those that can are named.
        """
        for layer in self.layers.values():
            layer.check_backend()

    def memory_line(self) -> str:
        """The measured bytes before and now, for the log."""
        before, now = self.linear_bytes_before, self.linear_bytes
        return (
            f"[GR00T-DUQUANT] Bytes of the {len(self.layers)} layers: {before:,} before, {now:,} now "
            f"({now / before:.2f}x); of the whole model: {self.model_bytes_before:,} before, "
            f"{self.model_bytes:,} now"
        )

    def kernel_line(self) -> str:
        """What multiplies and what transforms, with how many layers, for the log."""
        kernels = Counter(
            f"sums by {layer.backend.accumulator} ({layer.backend.accumulator_reason}), "
            f"transforms by {layer.backend.transformer} ({layer.backend.transformer_reason})"
            for layer in self.layers.values()
        )
        found = "; ".join(f"{count} layers: {text}" for text, count in kernels.items())
        return f"[GR00T-DUQUANT] {found}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data that survives JSON and msgpack."""
        return {
            "enabled": True,
            "layers_replaced": len(self.layers),
            # Fewer where a layer was selected but both of its sides stay in floating point.
            "layers_quantized": sum(layer.spec.bits != "W16 A16" for layer in self.layers.values()),
            "layers": {
                name: {
                    "bits": layer.spec.bits,
                    "in_features": layer.spec.in_features,
                    "out_features": layer.spec.out_features,
                    "rounding": layer.spec.rounding.value,
                    "activation_scale": _activation_scale(layer),
                    "accumulator": layer.backend.accumulator,
                    "accumulator_reason": layer.backend.accumulator_reason,
                    "transformer": layer.backend.transformer,
                    "transformer_reason": layer.backend.transformer_reason,
                    "bytes": layer.resident_bytes(),
                }
                for name, layer in self.layers.items()
            },
            "layers_from_packs": self.packed,
            "layers_informed": self.informed,
            "layers_rounded_with_feedback": self.rounded_with_feedback,
            "layers_sha256": self.layers_sha256,
            "calibration_sha256": self.calibration_sha256,
            "artefact": self.artefact,
            "calibrating": any(layer.is_calibrating for layer in self.layers.values()),
            "linear_bytes_before": self.linear_bytes_before,
            "linear_bytes": self.linear_bytes,
            "model_bytes_before": self.model_bytes_before,
            "model_bytes": self.model_bytes,
            "config": self.config.to_dict(),
        }


def model_bytes(model: nn.Module) -> int:
    """Bytes of every parameter and buffer of `model`, each counted once, with what layers hold besides."""
    held = {id(tensor): tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]}
    for module in model.modules():
        if isinstance(module, HoldsMore):
            held.update(module.transient_bytes())
    return sum(held.values())


def _activation_scale(layer: DuQuantLinear) -> str:
    if layer.spec.activation is None:
        return "none: activations stay in floating point"
    if not layer.spec.static:
        return "dynamic per token"
    return (
        "dynamic per token until calibrated" if layer.is_calibrating else "static per input channel, folded"
    )
