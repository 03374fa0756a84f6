"""The static activation scales of one layer, from the inputs that it is called with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gr00t.quantization.calibration.observers import PooledPercentile
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.soundness import static_scale


class LayerCalibration:
    """Shows an observer every rotated input of a layer, and in the end fixes the layer's scales by it.

    Args:
        layer: with static activation scales that are not fixed yet.
        observer: of its inputs.
    """

    def __init__(self, layer: DuQuantLinear, observer: PooledPercentile) -> None:
        self._layer, self._observer = layer, observer
        self._hook = layer.register_forward_pre_hook(self._observe)

    def finish(self, pool: PooledPercentile | None = None) -> bool:
        """Stop observing, and fix the layer's scales.

        Args:
            pool: what decides; the observer itself if None.

        Returns:
            False where no input was ever seen: the layer then keeps dynamic per-token scales.

        Raises:
            UnsoundError: inputs were seen that allow no scales, inf or nan. The layer is as it was.
            InputsLostError: rows that its weight is to be rounded by are lost. The layer is as it was.
        """
        self._hook.remove()
        pool = pool or self._observer
        if not pool.rows:
            return False
        assert self._layer.spec.activation is not None
        self._layer.fix_scales(static_scale(pool.result(), self._layer.spec.activation))
        return True

    def _observe(self, layer: DuQuantLinear, inputs: tuple[Tensor, ...], *_: Any) -> None:
        x = inputs[0]
        self._observer.observe(layer.rotate_input(x.reshape(-1, x.shape[-1])))
