"""A policy with some of its layers quantized, for one measurement; all others stay as they are."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gr00t.eval.drift.chunks import Chunks, chunks_of
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.quantization.building import build_layers
from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.quantize import decided
from gr00t.quantization.replacing import in_place
from gr00t.quantization.settings.layer_filter import LayerFilter
from gr00t.quantization.settings.options import Execution
from gr00t.quantization.settings.scheme import LinearScheme, RuntimeOptions
from gr00t.quantization.settings.selection import LayerPlan, plan_layers
from gr00t.quantization.settings.spec import IntFormat

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy
    from gr00t.model.preprocessing.prepared_observation import PreparedObservation

_RUNTIME = RuntimeOptions(execution=Execution.AUTO)


class TrialPolicy:
    """Answers the same requests with whatever layers quantized.

    Args:
        policy: not quantized.
        scheme: how layers are quantized, but for the bits of their weights.
        statistics: of the layers' inputs, by name.
        requests: prepared, each with its noise.
        batch: how many are answered at a time.
    """

    def __init__(
        self,
        policy: Gr00tPolicy,
        scheme: LinearScheme,
        statistics: Mapping[str, InputStatistics],
        requests: Sequence[PreparedObservation],
        batch: int,
    ) -> None:
        self._policy, self._scheme, self._statistics = policy, scheme, statistics
        self._requests, self._batch = requests, batch
        self._aliases = module_aliases(policy.model)

    def answers(self, bits: Mapping[str, int]) -> Chunks:
        """Return the answers with these layers quantized at these bits, and no others.

        Raises:
            ValueError: a layer cannot be quantized; it is named.
            DriftError: an answer is not finite.
        """
        with self._quantized(bits):
            answered = (
                answer
                for first in range(0, len(self._requests), self._batch)
                for answer in self._policy.get_actions(self._requests[first : first + self._batch])
            )
            return chunks_of(answered)

    def plans(self, bits: Mapping[str, int]) -> list[LayerPlan]:
        """Return what becomes of these layers, where no others are quantized."""
        formats = {name: IntFormat(number) for name, number in bits.items()}
        scheme = dataclasses.replace(self._scheme, weight_by_layer=formats)
        chosen = LayerFilter(layers=tuple(bits))
        plans = decided(
            self._policy.model,
            plan_layers(self._policy.model, scheme, chosen, self._aliases),
            self._statistics,
        )
        return [plan for plan in plans if plan.spec is not None]

    @contextlib.contextmanager
    def _quantized(self, bits: Mapping[str, int]) -> Iterator[None]:
        """Put quantized layers in place while the context lasts."""
        model, device = self._policy.model, self._policy.device
        plans = self.plans(bits) if bits else []
        # Where a server quantizes, too: on the CPU, before the layers move.
        on_cpu = [dataclasses.replace(plan, linear=copy.deepcopy(plan.linear).cpu()) for plan in plans]
        built = build_layers(model, on_cpu, PackStore(None), self._statistics, _RUNTIME)
        with in_place(model, plans, {name: layer.to(device) for name, layer in built.items()}):
            yield
