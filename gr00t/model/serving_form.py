"""The form in which a model is served: what follows from its weights is kept."""

from __future__ import annotations

import logging

from gr00t.model.network.model import Gr00tModel
from gr00t.model.network.packed_linear import pack_linears

logger = logging.getLogger(__name__)


def settle_weights(model: Gr00tModel, packs: bool = True) -> None:
    """Prepare a model for many requests, in place; answers change by the order of sums at most.

    Args:
        model: complete, on its device, quantized or not. Where layers are packed its weights can be read
            afterwards by `state_dict`, no longer set, copied, moved or quantized.
        packs: lay out the weights of float layers for this processor; not for a model that is compiled, whose
            compiler does so by itself where that pays.
    """
    model.action_head.keeps_clocks = True
    packed = pack_linears(model) if packs else 0
    logger.debug("%d float layers laid out for this processor", packed)
