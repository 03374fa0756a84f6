"""What is decided about every linear layer of a model; on any `nn.Module`, on any device, `meta` included.

A layer is known by its module name and, where the caller passes one, by an alias (its name in a checkpoint's
format): filters and `weight_by_layer` take either, so recipes written for the checkpoint's names work
unchanged. The aliases are data; nothing here knows a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from gr00t.quantization.settings.environment import PREFIX
from gr00t.quantization.settings.layer_filter import LayerFilter
from gr00t.quantization.settings.scheme import LinearScheme
from gr00t.quantization.settings.spec import LinearSpec
from gr00t.spelling import did_you_mean

# Whether to take a layer, by the module and its name.
FilterFn = Callable[[nn.Module, str], bool]
EVERY_LINEAR = LayerFilter()


class DuQuantSelectionError(ValueError):
    """The settings select no layer, or name layers that are not there."""


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """What is decided about one linear layer.

    Attributes:
        name: module name.
        alias: its other name, or None.
        linear: the module itself.
        spec: what it becomes; None where it stays in floating point.
        reason: why it was taken or left.
        asked: the same as the scheme alone would have it, before neighbours and statistics count.
        absorbs: name of the layer whose output stays rotated because the weight of this one makes up for it.
    """

    name: str
    alias: str | None
    linear: nn.Linear
    spec: LinearSpec | None
    reason: str
    asked: LinearSpec | None = None
    absorbs: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Both names, or the one that there is."""
        return (self.name, self.alias) if self.alias else (self.name,)

    def __str__(self) -> str:
        return f"{self.name}: Linear({self.linear.in_features}->{self.linear.out_features})"


def plan_layers(
    model: nn.Module,
    scheme: LinearScheme,
    filter_fn: FilterFn = EVERY_LINEAR,
    aliases: Mapping[str, str] | None = None,
) -> list[LayerPlan]:
    """Return a plan of every `nn.Linear` of `model` by itself, in model order.

    Args:
        model: any module; only its structure is read.
        scheme: how to quantize those that are taken.
        filter_fn: which are taken.
        aliases: other names of layers, by module name.

    Raises:
        DuQuantSelectionError: the model is one itself, so that nothing could be put in its place.
    """
    if type(model) is nn.Linear:
        raise DuQuantSelectionError(
            "the model is itself a Linear, which cannot be replaced in place: wrap it, nn.Sequential(model)"
        )
    plans = []
    for name, module in model.named_modules():
        # Subclasses of Linear are left alone: their owners read .weight directly (nn.MultiheadAttention
        # does).
        if type(module) is nn.Linear:
            alias = (aliases or {}).get(name)
            plan = LayerPlan(name, alias, module, None, "")
            if isinstance(filter_fn, LayerFilter):
                taken, reason = filter_fn.judge(*plan.names)
            else:
                taken = filter_fn(module, name)
                reason = f"{'taken' if taken else 'left'} by filter_fn"
            spec = scheme.spec_for(module.in_features, module.out_features, *plan.names) if taken else None
            plans.append(dataclasses.replace(plan, spec=spec, asked=spec, reason=reason))
    return plans


def check_plans(
    plans: Sequence[LayerPlan], scheme: LinearScheme, filter_fn: FilterFn, *, list_all: bool = False
) -> None:
    """Refuse a selection that is empty, or not what was asked for.

    Args:
        plans: of every layer, by `scheme` and `filter_fn`.
        scheme: how they are quantized.
        filter_fn: how they were chosen.
        list_all: name all layers that were left where none is taken, not three of each kind.

    Raises:
        DuQuantSelectionError: nothing is selected, LAYERS names no Linear, or WBITS a layer that is not
            selected.
    """
    known = _names(plans)
    layers = filter_fn.layers if isinstance(filter_fn, LayerFilter) else ()
    problems = [
        f"{PREFIX}LAYERS: no Linear is named {name!r}; {did_you_mean(name, known)}"
        for name in layers
        if name not in known
    ]
    selected = _names(plan for plan in plans if plan.spec is not None)
    if not selected and not problems:
        problems.append(_nothing_selected(plans, list_all))
    elif not problems:
        for name in dict(scheme.weight_by_layer):
            if any(fnmatchcase(layer, name) for layer in selected):
                continue
            fault = "not selected" if any(fnmatchcase(layer, name) for layer in known) else "no Linear"
            problems.append(f"{PREFIX}WBITS: {name!r} is {fault}; {did_you_mean(name, selected)}")
    if problems:
        raise DuQuantSelectionError(
            "DuQuant cannot use these settings on this model\n  " + "\n  ".join(problems)
        )


def _names(plans: Iterable[LayerPlan]) -> set[str]:
    return {name for plan in plans for name in plan.names}


def _nothing_selected(plans: Sequence[LayerPlan], list_all: bool) -> str:
    """Say why the selection is empty, with the layers that come nearest to it."""
    reasons: dict[str, list[str]] = {}
    for plan in plans:
        reasons.setdefault(plan.reason, []).append(plan.name)
    lines = [f"none of {len(plans)} Linear layers is selected"]
    # What EXCLUDE took had passed the other filters: it came nearest, so it is shown first.
    for reason, names in sorted(reasons.items(), key=lambda item: not item[0].startswith("EXCLUDE"))[:4]:
        shown = names if list_all else names[:3]
        more = (
            f", ... {len(names) - len(shown)} more ({PREFIX}DEBUG=1 lists all)"
            if len(names) > len(shown)
            else ""
        )
        lines.append(f"  {reason}: {', '.join(shown)}{more}")
    return "\n  ".join(lines)
