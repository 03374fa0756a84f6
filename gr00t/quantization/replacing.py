"""The only place that replaces a module of a model by another one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.settings.selection import LayerPlan

logger = logging.getLogger(__name__)

# Whose child, its name, and what it was.
_Place = tuple[nn.Module, str, nn.Linear]


def put_in_place(model: nn.Module, targets: Sequence[LayerPlan], layers: Mapping[str, DuQuantLinear]) -> None:
    """Replace every target by the layer of its name, wherever in `model` it is, and say so in the log.

    Where one cannot be replaced, those before it are put back.
    """
    replaced: list[_Place] = []
    try:
        _replace(model, targets, layers, replaced)
    except BaseException:
        _put_back(replaced)
        raise
    for target in targets:
        logger.info("[GR00T-DUQUANT][REPLACED] %s -> DuQuantLinear %s", target, target.spec)
    logger.info("[GR00T-DUQUANT] Total layers replaced: %d", len(layers))


@contextlib.contextmanager
def in_place(
    model: nn.Module, targets: Sequence[LayerPlan], layers: Mapping[str, DuQuantLinear]
) -> Iterator[None]:
    """Have every target replaced while the context lasts, with nothing in the log."""
    replaced: list[_Place] = []
    try:
        _replace(model, targets, layers, replaced)
        yield
    finally:
        _put_back(replaced)


def _replace(
    model: nn.Module,
    targets: Sequence[LayerPlan],
    layers: Mapping[str, DuQuantLinear],
    replaced: list[_Place],
) -> None:
    """Replace all of them, and note in `replaced` what was where, before it is touched."""
    for target in targets:
        for name in _names_of(model, target.linear):
            parent, _, child = name.rpartition(".")
            owner = model.get_submodule(parent)
            replaced.append((owner, child, target.linear))
            setattr(owner, child, layers[target.name])


def _put_back(replaced: Sequence[_Place]) -> None:
    for owner, child, linear in replaced:
        owner._modules[child] = linear  # not by setattr, which may be what fails


def _names_of(model: nn.Module, linear: nn.Linear) -> list[str]:
    """Every name of a module: a layer shared between two places is replaced in both."""
    return [name for name, module in model.named_modules(remove_duplicate=False) if module is linear]
