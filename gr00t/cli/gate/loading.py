"""The policy of an arm as it is loaded, and whether it became what its recipe asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gr00t.cli.gate.arguments import DriftArguments
from gr00t.cli.gate.arms import SettledArm
from gr00t.cli.serving.policy import load_by_flags
from gr00t.eval.drift.chunks import DriftError
from gr00t.quantization.settings.environment import to_environ

if TYPE_CHECKING:
    from torch import nn

    from gr00t.model.policy import Gr00tPolicy

UNQUANTIZED = to_environ({"ENABLE": "0"})


def load(
    arguments: DriftArguments,
    model: str,
    dtype: str,
    denoising_steps: int | None = None,
    environ: Mapping[str, str] = UNQUANTIZED,
) -> Gr00tPolicy:
    """Return the policy in a precision, quantized as `environ` says.

    Args:
        arguments: the other flags.
        model: the checkpoint.
        dtype: of what is not quantized, as torch calls it.
        denoising_steps: those of the flags if None.
        environ: settings.
    """
    steps = arguments.euler_steps if denoising_steps is None else denoising_steps
    return load_by_flags(_Flags(arguments, dtype, steps), model, environ)


def taken_layers(policy: Gr00tPolicy, settled: SettledArm) -> dict[str, nn.Linear]:
    """Return the layers that an arm's settings quantize, by name; none where it has no settings.

    Raises:
        DuQuantSelectionError: they fit no layer, or name one that is not there.
        DriftError: they leave all layers in floating point.
    """
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.quantization import DuQuantSelectionError, plan

    if settled.config is None:
        return {}
    asked = (settled.config.scheme, settled.config.layer_filter)
    try:
        plans = plan(policy.model, *asked, aliases=module_aliases(policy.model))
    except DuQuantSelectionError as error:
        raise DuQuantSelectionError(f"arm {settled.arm.name}: {error}") from error
    taken = {layer.name: layer for layer in plans if layer.spec is not None}
    if all(layer.spec is None or layer.spec.bits == "W16 A16" for layer in taken.values()):
        raise DriftError(f"arm {settled.arm.name} is to be quantized, and no layer is: all have 16 bits")
    return {name: layer.linear for name, layer in taken.items()}


def check_quantized(settled: SettledArm, report: Mapping[str, Any]) -> None:
    """Check that an arm is what its recipe says.

    Raises:
        DriftError: it quantized nothing, still calibrates, or not all of its layers are calibrated.
    """
    name = settled.arm.name
    if settled.config is None:
        return
    if not report.get("enabled") or not report.get("layers_quantized"):
        raise DriftError(f"arm {name} is to be quantized, and no layer is")
    if report["calibrating"]:
        raise DriftError(f"arm {name}: its static scales are not fixed, it would calibrate on what judges it")
    informed, quantized = report["layers_informed"], report["layers_quantized"]
    if (settled.is_recorded or settled.packs is not None) and informed < quantized:
        found = f"{informed} of {quantized} layers know of recorded inputs"
        packs = "; packs are missing or damaged, see the log: calibrate anew" if settled.packs else ""
        raise DriftError(f"arm {name} is to be calibrated, and {found}{packs}")


@dataclasses.dataclass(frozen=True)
class _Flags:
    """The command's flags for `load_by_flags`, but for what differs from arm to arm."""

    arguments: DriftArguments
    dtype: str
    denoising_steps: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.arguments, name)
