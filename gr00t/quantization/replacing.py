"""The only place that replaces a module of a model by another one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from torch import nn

from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.settings.selection import LayerPlan

logger = logging.getLogger(__name__)


def put_in_place(model: nn.Module, targets: Sequence[LayerPlan], layers: Mapping[str, DuQuantLinear]) -> None:
    """Replace every target by the layer of its name, wherever in `model` it is, and say so in the log.

    Where one cannot be replaced, those before it are put back.
    """
    replaced: list[tuple[nn.Module, str, nn.Linear]] = []
    try:
        for target in targets:
            for name in _names_of(model, target.linear):
                parent, _, child = name.rpartition(".")
                owner = model.get_submodule(parent)
                replaced.append((owner, child, target.linear))
                setattr(owner, child, layers[target.name])
    except BaseException:
        for owner, child, linear in replaced:
            owner._modules[child] = linear  # not by setattr, which may be what fails
        raise
    for target in targets:
        logger.info("[GR00T-DUQUANT][REPLACED] %s -> DuQuantLinear %s", target, target.spec)
    logger.info("[GR00T-DUQUANT] Total layers replaced: %d", len(layers))


def _names_of(model: nn.Module, linear: nn.Linear) -> list[str]:
    """Every name of a module: a layer shared between two places is replaced in both."""
    return [name for name, module in model.named_modules(remove_duplicate=False) if module is linear]
