"""Build the quantized layers of a model, as many at a time as there are CPU threads.

A layer's arithmetic is many short operations on runs of rows that fit the cache: they gain nothing from a
second thread, but layers are independent of each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from gr00t.quantization.checkpoint.packs import PackStore
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.statistics import InputStatistics
from gr00t.quantization.propagation import rotation_to_absorb
from gr00t.quantization.settings.scheme import RuntimeOptions
from gr00t.quantization.settings.selection import LayerPlan


def build_layers(
    model: nn.Module,
    targets: Sequence[LayerPlan],
    store: PackStore,
    statistics: Mapping[str, InputStatistics],
    runtime: RuntimeOptions,
    on_layer: Callable[[], object] = lambda: None,
) -> dict[str, DuQuantLinear]:
    """Quantize all targets, every layer before the one that absorbs its rotation.

    Args:
        model: what the targets are in; it is only read.
        targets: the layers, with their specifications.
        store: where packs are found and left.
        statistics: of the layers' inputs, by name.
        runtime: how they run.
        on_layer: told after each, in this thread.

    Returns:
        The layers by name, in the order of `targets`.

    Raises:
        ValueError: a layer cannot be quantized; it is named.
    """
    absorbed: dict[str, Tensor] = {}

    def build(target: LayerPlan) -> DuQuantLinear:
        assert target.spec is not None
        name = target.name
        try:
            if target.linear.weight.is_meta:
                raise ValueError("its weight is on meta; load the model's weights first")
            seen, rotated = statistics.get(name), absorbed.get(name)
            # A folder of packs may have the inputs that the plan knows nothing of.
            asked = target.spec if target.asked is None else target.asked
            spec = dataclasses.replace(target.spec, rounding=asked.rounding)
            return store.layer(name, target.linear, spec, seen, rotated).run_as(runtime)
        except ValueError as error:
            raise ValueError(f"{name} cannot be quantized: {error}") from error

    late = [target for target in targets if target.absorbs is not None]
    built: dict[str, DuQuantLinear] = {}
    for wave in ([target for target in targets if target.absorbs is None], late):
        for target in wave:
            if target.absorbs is not None:
                rotated = built[target.absorbs]
                absorbed[target.name] = rotation_to_absorb(model, target.absorbs, rotated, target.name)
        built |= zip((target.name for target in wave), _on_all_threads(build, wave, on_layer), strict=True)
    return {target.name: built[target.name] for target in targets}


def _on_all_threads(
    build: Callable[[LayerPlan], DuQuantLinear], wave: Iterable[LayerPlan], on_layer: Callable[[], object]
) -> list[DuQuantLinear]:
    """`[build(target) for target in wave]`, with one thread of torch for each call at work."""
    built = []
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for layer in pool.map(build, wave):
            built.append(layer)
            on_layer()
        return built
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers' setting reaches the linear algebra library of them all
