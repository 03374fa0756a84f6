"""ROW_ROT=propagate: an output rotation that nobody has to undo, because the next weight absorbs it.

Between `v_proj` and `o_proj` of an attention lies only a weighted sum over tokens, which treats every channel
of a head alike. So if v_proj's outputs stay rotated within each head, v U instead of v, its o_proj gives the
same result from the weight `W_o U`, where each key-value head's rotation stands once for every query head it
serves:

    o = (A v) W_o^T = (A v U) (W_o U)^T

Everywhere else something stands between (a gate, a norm, rotary positions, a residual sum): those outputs are
restored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.settings.options import RowRotation
from gr00t.quantization.settings.selection import LayerPlan


def propagate(model: nn.Module, plans: Sequence[LayerPlan]) -> list[LayerPlan]:
    """Decide which outputs stay rotated.

    Args:
        model: the model that the plans are of; an attention is recognised by its `head_dim`, `v_proj` and
            `o_proj`.
        plans: of its layers, as asked: with ROW_ROT=propagate.

    Returns:
        The plans: those that must be restored with that specification, and those that absorb a rotation with
        the name of the layer that it comes from.
    """
    by_name = {plan.name: plan for plan in plans if plan.spec is not None}
    absorbed = {}  # name of the rotated layer, by that of the one that absorbs its rotation
    for name in by_name:
        path, child = name[: name.rfind(".") + 1], name.rpartition(".")[2]
        consumer = f"{path}o_proj"
        if child == "v_proj" and consumer in by_name:
            head_dim = _head_dim(model, name)
            if head_dim is not None and _absorbs(by_name[name], by_name[consumer], head_dim):
                absorbed[consumer] = name
    planned = []
    for plan in plans:
        if plan.spec is not None:
            spec = dataclasses.replace(
                plan.spec,
                row_rotation=RowRotation.PROPAGATE if plan.name in absorbed.values() else RowRotation.RESTORE,
                absorbs=plan.name in absorbed,
            )
            plan = dataclasses.replace(plan, spec=spec, absorbs=absorbed.get(plan.name))
        planned.append(plan)
    return planned


def rotation_to_absorb(model: nn.Module, values: str, layer: DuQuantLinear, output: str) -> Tensor:
    """Lay out v_proj's output rotation over the channels of o_proj's input.

    Args:
        model: what both are in, o_proj still as it was.
        values: name of v_proj.
        layer: its quantized form, with rotation_out (value channels / B or 1, B, B).
        output: name of the o_proj that absorbs it.

    Returns:
        (output channels / B, B, B), or `rotation_out` itself where all blocks share it.
    """
    rotation = layer.rotation_out
    assert rotation is not None
    if rotation.shape[0] == 1:
        return rotation
    head_dim = _head_dim(model, values)
    linear = model.get_submodule(output)
    assert isinstance(linear, nn.Linear)
    assert head_dim is not None
    per_head = rotation.unflatten(0, (layer.spec.out_features // head_dim, -1))
    return per_head.repeat_interleave(linear.in_features // layer.spec.out_features, dim=0).flatten(0, 1)


def _head_dim(model: nn.Module, linear: str) -> int | None:
    """`head_dim` of the attention that `linear` is part of."""
    head_dim = getattr(model.get_submodule(linear.rpartition(".")[0]), "head_dim", None)
    return head_dim if isinstance(head_dim, int) else None


def _absorbs(values: LayerPlan, output: LayerPlan, head_dim: int) -> bool:
    v, o = values.spec, output.spec
    return (
        v is not None
        and o is not None
        and v.rotates_rows
        # In floating point a weight is not rewritten, and a weight-only layer leaves nothing to restore.
        and None not in (v.weight, v.activation, o.weight)
        and values.linear.bias is None
        and head_dim % v.block_out == 0
        and v.out_features % head_dim == 0
        and o.in_features % v.out_features == 0
    )
