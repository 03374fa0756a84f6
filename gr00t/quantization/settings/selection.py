"""Which linear layers are quantized, and how; on any `nn.Module`, on any device, `meta` included.

A layer is known by its module name and, where the caller passes one, by an alias (its name in a checkpoint's
format). INCLUDE is met by either name, EXCLUDE by either, and SCOPE, LAYERS and WBITS take either: recipes
written for the checkpoint's names work unchanged. In WBITS a `*` stands for any part of a name, since recipes
cannot know how many layers a model has; a name that is written out comes before one with `*`. The aliases are
data; nothing here knows a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from gr00t.quantization.settings.environment import PREFIX, DuQuantConfig
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from gr00t.spelling import did_you_mean


class DuQuantSelectionError(ValueError):
    """The settings select no layer, or name layers that are not there."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One linear layer, and whether it is quantized.

    Attributes:
        name: module name.
        alias: its other name, or None.
        linear: the module itself.
        spec: how it is quantized; None where it is not.
        reason: why it was taken or left.
    """

    name: str
    alias: str | None
    linear: nn.Linear
    spec: LinearSpec | None
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: Linear({self.linear.in_features}->{self.linear.out_features})"


def select_targets(
    model: nn.Module, config: DuQuantConfig, aliases: Mapping[str, str] | None = None
) -> list[Verdict]:
    """Return the layers that `config` quantizes, in model order; every `spec` is set.

    Args:
        model: any module; only its structure is read.
        config: the settings.
        aliases: other names of layers, by module name.

    Raises:
        DuQuantSelectionError: nothing is selected, LAYERS names no Linear, or WBITS a layer that is not
            selected.
    """
    verdicts = judge_layers(model, config, aliases)
    known = _names(verdicts)
    problems = [
        f"{PREFIX}LAYERS: no Linear is named {name!r}; {did_you_mean(name, known)}"
        for name in config.layers
        if name not in known
    ]
    targets = [verdict for verdict in verdicts if verdict.spec is not None]
    selected = _names(targets)
    if not targets and not problems:
        problems.append(_nothing_selected(verdicts, config))
    elif not problems:
        for name in dict(config.weight_bits_by_layer):
            if any(fnmatchcase(layer, name) for layer in selected):
                continue
            fault = "not selected" if any(fnmatchcase(layer, name) for layer in known) else "no Linear"
            problems.append(f"{PREFIX}WBITS: {name!r} is {fault}; {did_you_mean(name, selected)}")
    if problems:
        raise DuQuantSelectionError(
            "DuQuant cannot use these settings on this model\n  " + "\n  ".join(problems)
        )
    return targets


def judge_layers(
    model: nn.Module, config: DuQuantConfig, aliases: Mapping[str, str] | None = None
) -> list[Verdict]:
    """Return a verdict on every `nn.Linear` of `model`, in model order."""
    verdicts = []
    for name, module in model.named_modules():
        # Subclasses of Linear are left alone: their owners read .weight directly (nn.MultiheadAttention
        # does).
        if type(module) is nn.Linear:
            alias = (aliases or {}).get(name)
            taken, reason = _judge((name, alias) if alias else (name,), config)
            verdicts.append(
                Verdict(name, alias, module, spec_for(name, alias, module, config) if taken else None, reason)
            )
    return verdicts


def _judge(names: tuple[str, ...], config: DuQuantConfig) -> tuple[bool, str]:
    if config.layers:
        named = any(name in config.layers for name in names)
        return named, "named by LAYERS" if named else "not named by LAYERS"
    if not any(name.startswith(config.scope) for name in names):
        return False, f"outside SCOPE {config.scope!r}"
    if not any(config.include.search(name) for name in names):
        return False, "INCLUDE does not match"
    for name, whose in zip(names, ("", " in the checkpoint's name"), strict=False):
        if found := config.exclude.search(name):
            return False, f"EXCLUDE matches {found.group()!r}{whose}"
    return True, "INCLUDE matches"


def spec_for(name: str, alias: str | None, linear: nn.Linear, config: DuQuantConfig) -> LinearSpec:
    """Return the specification that the settings give a layer, by itself."""
    weight_bits = _weight_bits((name, alias or ""), config)
    return LinearSpec(
        in_features=linear.in_features,
        out_features=linear.out_features,
        weight=None if weight_bits is None else IntFormat(weight_bits),
        activation=None if config.act_bits is None else IntFormat(config.act_bits),
        block_in=config.block_in,
        block_out=config.block_out,
        weight_scale=config.weight_scale,
        permute=config.permute,
        rotation=config.rotation,
        row_rotation=config.row_rotation,
        smoothing=config.smoothing,
        calibration_steps=0 if config.act_bits is None else config.calibration_steps,
        act_percentile=config.act_percentile,
        execution=config.execution,
    )


def _weight_bits(names: tuple[str, ...], config: DuQuantConfig) -> int | None:
    by_layer = dict(config.weight_bits_by_layer)
    for name in names:
        if name in by_layer:
            return by_layer[name]
    for pattern, bits in by_layer.items():
        if any(fnmatchcase(name, pattern) for name in names):
            return bits
    return config.weight_bits


def _names(verdicts: Iterable[Verdict]) -> set[str]:
    return {name for verdict in verdicts for name in (verdict.name, verdict.alias) if name}


def _nothing_selected(verdicts: list[Verdict], config: DuQuantConfig) -> str:
    """Say why the selection is empty, with the layers that come nearest to it."""
    reasons: dict[str, list[str]] = {}
    for verdict in verdicts:
        reasons.setdefault(verdict.reason, []).append(verdict.name)
    lines = [f"none of {len(verdicts)} Linear layers is selected"]
    # What EXCLUDE took had passed the other filters: it came nearest, so it is shown first.
    for reason, names in sorted(reasons.items(), key=lambda item: not item[0].startswith("EXCLUDE"))[:4]:
        shown = names if config.debug else names[:3]
        more = (
            f", ... {len(names) - len(shown)} more ({PREFIX}DEBUG=1 lists all)"
            if len(names) > len(shown)
            else ""
        )
        lines.append(f"  {reason}: {', '.join(shown)}{more}")
    return "\n  ".join(lines)
