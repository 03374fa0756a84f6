"""What is decided about every linear layer of a model; on any `nn.Module`, on any device, `meta` included.

A layer is known by its module name and, where the caller passes one, by an alias (its name in a checkpoint's
format): filters, `weight_by_layer` and `activation_by_layer` take either, so recipes written for the
checkpoint's names work unchanged. The aliases are data; nothing here knows a model.
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
# Modules of torch that read the weight of these children instead of calling them.
_READERS = {nn.TransformerEncoderLayer: ("linear1", "linear2")}


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
        shared: its further names, where it is in several places.
    """

    name: str
    alias: str | None
    linear: nn.Linear
    spec: LinearSpec | None
    reason: str
    asked: LinearSpec | None = None
    absorbs: str | None = None
    shared: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names that there are."""
        return (self.name, self.alias, *self.shared) if self.alias else (self.name, *self.shared)

    def __str__(self) -> str:
        return f"{self.name}: Linear({self.linear.in_features}->{self.linear.out_features})"


def plan_layers(
    model: nn.Module,
    scheme: LinearScheme,
    filter_fn: FilterFn = EVERY_LINEAR,
    aliases: Mapping[str, str] | None = None,
) -> list[LayerPlan]:
    """Return a plan of every `nn.Linear` of `model` by itself, in model order.

    Left whatever is asked: subclasses of `nn.Linear`, and layers whose weight a module of torch reads.

    Args:
        model: any module; only its structure is read.
        scheme: how to quantize those that are taken.
        filter_fn: which are taken. A layer with several names is asked for by all of them; a function of the
            module and its name has to take all, a `LayerFilter` counts them like an alias.
        aliases: other names of layers, by module name.

    Raises:
        TypeError: `filter_fn` returns neither True nor False.
        DuQuantSelectionError: the model is one itself, so that nothing could be put in its place; or a module
            says by an attribute `not_quantizable` why it is none any more.
    """
    if type(model) is nn.Linear:
        raise DuQuantSelectionError(
            "the model is itself a Linear, which cannot be replaced in place: wrap it, nn.Sequential(model)"
        )
    names: dict[nn.Linear, list[str]] = {}
    read = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if (reason := getattr(module, "not_quantizable", None)) is not None:
            raise DuQuantSelectionError(f"{name or 'the model'} cannot be quantized: {reason}")
        if isinstance(module, nn.Linear):
            names.setdefault(module, []).append(name)
        for owner, children in _READERS.items():
            if isinstance(module, owner):
                read.update({getattr(module, child, None): f"nn.{owner.__name__}" for child in children})
    aliases = aliases or {}
    plans = []
    for linear, (name, *others) in names.items():
        shared = [known for other in others for known in (other, aliases.get(other)) if known]
        plan = LayerPlan(name, aliases.get(name), linear, None, "", shared=tuple(shared))
        taken = False
        if type(linear) is not nn.Linear:  # nn.MultiheadAttention has one, and reads its weight
            reason = f"a {type(linear).__name__}, not nn.Linear itself: its owner may read it"
        elif linear in read:
            reason = f"{read[linear]} reads its weight"
        elif isinstance(filter_fn, LayerFilter):
            taken, reason = filter_fn.judge(name, plan.alias, shared)
        else:
            taken, reason = _judge(filter_fn, linear, [name, *others])
        spec = scheme.spec_for(linear.in_features, linear.out_features, *plan.names) if taken else None
        plans.append(dataclasses.replace(plan, spec=spec, asked=spec, reason=reason))
    return plans


def _judge(filter_fn: FilterFn, linear: nn.Linear, names: Sequence[str]) -> tuple[bool, str]:
    """Ask `filter_fn` for a layer by all of its names: it is taken if all are."""
    left = []
    for name in names:
        taken = filter_fn(linear, name)
        if not isinstance(taken, bool):
            raise TypeError(f"filter_fn returned {taken!r} for {name}: expected True or False")
        if not taken:
            left.append(name)
    if 0 < len(left) < len(names):
        return False, f"left by filter_fn as {left[0]!r}"
    return not left, f"{'left' if left else 'taken'} by filter_fn"


def check_plans(
    plans: Sequence[LayerPlan], scheme: LinearScheme, filter_fn: FilterFn, *, debug: bool | None = None
) -> None:
    """Refuse a selection that is empty, or not what was asked for.

    Args:
        plans: of every layer, by `scheme` and `filter_fn`.
        scheme: how they are quantized.
        filter_fn: how they were chosen.
        debug: of whoever asks by variables: name all layers that were left where none is taken, not three of
            each kind. None: Python asks, and is told of no variable.

    Raises:
        DuQuantSelectionError: nothing is selected, LAYERS names no Linear or one that cannot be quantized, or
            WBITS or ABITS_LAYERS a layer that is not selected.
    """
    known, selected = _names(plans), _names(plan for plan in plans if plan.spec is not None)
    by_layers, by_wbits, by_abits = (
        ("layers", "weight_by_layer", "activation_by_layer")
        if debug is None
        else (PREFIX + "LAYERS", PREFIX + "WBITS", PREFIX + "ABITS_LAYERS")
    )
    problems = []
    for name in filter_fn.layers if isinstance(filter_fn, LayerFilter) else ():
        if name not in known:
            problems.append(f"{by_layers}: no Linear is named {name!r}; {did_you_mean(name, known)}")
        elif name not in selected:
            reason = next(plan.reason for plan in plans if name in plan.names)
            problems.append(f"{by_layers}: {name!r} cannot be quantized: {reason}")
    if not selected and not problems:
        problems.append(_nothing_selected(plans, debug))
    elif not problems:
        for by, formats in ((by_wbits, scheme.weight_by_layer), (by_abits, scheme.activation_by_layer)):
            for name in dict(formats):
                if any(fnmatchcase(layer, name) for layer in selected):
                    continue
                fault = "not selected" if any(fnmatchcase(layer, name) for layer in known) else "no Linear"
                problems.append(f"{by}: {name!r} is {fault}; {did_you_mean(name, selected)}")
    if problems:
        raise DuQuantSelectionError(
            "DuQuant cannot use these settings on this model\n  " + "\n  ".join(problems)
        )


def _names(plans: Iterable[LayerPlan]) -> set[str]:
    return {name for plan in plans for name in plan.names}


def _nothing_selected(plans: Sequence[LayerPlan], debug: bool | None) -> str:
    """Say why the selection is empty, with the layers that come nearest to it."""
    reasons: dict[str, list[str]] = {}
    for plan in plans:
        reasons.setdefault(plan.reason, []).append(plan.name)
    lines = [f"none of {len(plans)} Linear layers is selected"]
    # What EXCLUDE took had passed the other filters: it came nearest, so it is shown first.
    for reason, names in sorted(reasons.items(), key=lambda item: not item[0].startswith("EXCLUDE"))[:4]:
        shown = names if debug else names[:3]
        more = f", ... {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        if more and debug is not None:
            more += f" ({PREFIX}DEBUG=1 lists all)"
        lines.append(f"  {reason}: {', '.join(shown)}{more}")
    return "\n  ".join(lines)
