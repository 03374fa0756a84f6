"""What is said of a pack: everything that it was made from, and in what that differs from what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gr00t.quantization.checkpoint.manifest_values import spec_to_json
from gr00t.quantization.checkpoint.tensor_file import hash_tensor
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.settings.spec import LinearSpec
from gr00t.spelling import shown

# What is recorded of a layer's input, as it is called in `made_from`.
_RECORDED = ("statistics", "inputs")
_SHOWN = 40  # characters of a value


def weight_hash(weight: Tensor) -> str:
    """Return the SHA-256 of a weight, (N, K), of its dtype and shape, too."""
    return hash_tensor(f"{weight.dtype}{tuple(weight.shape)}", weight)


def made_from(
    weight: str, spec: LinearSpec, rotation_absorbed: Tensor | None, statistics: InputStatistics | None
) -> dict[str, Any]:
    """Return everything that changes a number of a layer.

    Args:
        weight: its `weight_hash`.
        spec: how it is quantized.
        rotation_absorbed: what its input arrives rotated by.
        statistics: of its input.
    """
    found = {"weight": weight}
    if rotation_absorbed is not None:
        found["rotation_absorbed"] = hash_tensor("", rotation_absorbed)
    if statistics is not None:
        found["statistics"] = hash_tensor("", statistics.rows())
        if statistics.inputs is not None:
            found["inputs"] = statistics.inputs.sha256
    return {"spec": spec_to_json(spec), "made_from": found}


def knows_more(said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a pack was made from the same weight by recorded inputs that a layer lacks.

    Args:
        said: what `duquant.json` says that the pack was made from.
        wanted: what `made_from` says of the layer.
    """
    ours = wanted["made_from"]
    return said.get("weight") == ours["weight"] and any(key in said and key not in ours for key in _RECORDED)


def difference(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return what a pack was made from other than `wanted`, by name; empty where there is no difference."""
    has, wants = entry["made_from"], wanted["made_from"]
    found, ours = _settings(entry["spec"]), _settings(wanted["spec"])
    others = [
        f"{name} {shown(found.get(name), _SHOWN)}, not {shown(ours.get(name), _SHOWN)}"
        for name in {**ours, **found}
        if found.get(name) != ours.get(name)
    ]
    others += [name for name in {**wants, **has} if name != "weight" and has.get(name) != wants.get(name)]
    differing = ["another weight"] * (has.get("weight") != wants["weight"])
    differing += [f"other settings ({'; '.join(others)})"] * bool(others)
    return f"is for {' and '.join(differing)}" if differing else ""


def _settings(spec: Any) -> dict[str, Any]:
    """A specification as JSON, with names as people say them."""
    if not isinstance(spec, dict):
        return {}
    sides = {
        f"{side} bits": 16 if spec[side] is None else spec[side].get("bits")
        for side in ("weight", "activation")
        if isinstance(spec.get(side, 0), (dict, type(None)))
    }
    rest = {name: value for name, value in spec.items() if name not in ("weight", "activation", "rounding")}
    return {**sides, **rest, "rounding": spec.get("rounding", "nearest")}
