"""What follows from weights, kept as long as they are the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import is_
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class KeptWhileSame(Generic[T]):
    """Results of modules by a key of the caller's, let go as soon as one of the modules is another.

    Seen is another module, parameter or buffer, another memory of one, and every change in place that
    autograd counts, `load_state_dict` among them. PyTorch hides one way, writing through `tensor.data`.
    """

    def __init__(self) -> None:
        self._results: dict[Hashable, T] = {}
        # All that was seen is held, so that nothing else can come to lie at its address.
        self._objects: list[nn.Module | Tensor] = []
        self._memory: list[Tensor] = []
        self._state: list[int] = []

    def __reduce__(self) -> tuple[type[KeptWhileSame[T]], tuple[()]]:
        """A copy starts empty: its tensors count their changes anew."""
        return type(self), ()

    def results(self, roots: Iterable[nn.Module]) -> dict[Hashable, T]:
        """What was kept of `roots` (with their submodules), to read and to add to.

        Under autograd, and of tensors made in inference mode, which count no changes, nothing is kept.
        """
        objects: list[nn.Module | Tensor] = []
        tensors: list[Tensor] = []
        todo = list(roots)
        for module in todo:  # which grows
            objects.append(module)
            tensors += [held for held in module._parameters.values() if held is not None]
            tensors += [held for held in module._buffers.values() if held is not None]
            todo += [child for child in module._modules.values() if child is not None]
        if torch.is_grad_enabled() or any(tensor.is_inference() for tensor in tensors):
            return {}
        objects += tensors
        state = [number for tensor in tensors for number in (tensor._version, tensor.data_ptr())]
        same = state == self._state and len(objects) == len(self._objects)
        if not same or not all(map(is_, objects, self._objects)):
            self._results = {}
            self._objects, self._state = objects, state
            self._memory = [tensor.detach() for tensor in tensors]
        return self._results
