"""What a step minimizes: a weighted sum of losses, each of which says what it needs.

`gr00t.training.flow_matching.FlowMatching` is one. A program passes others to the `Trainer` beside it: layers
that exist in training only, what a run that goes on must agree in, and what they read of the network while it
computes are theirs, so that the trainer knows of none.

Shapes: B samples of a step, on this process; b of them in a part; chunks of H actions of A numbers
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs
from gr00t.training.plan import TrainingPlan

T = TypeVar("T")

# By the name of a module: what it has put out, forward by forward.
Outputs = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class TrainingStep:
    """What one process learns from in one step, on the CPU.

    Attributes:
        number: of the step, from 0.
        plan: of the run.
        samples: (B,) numbers of the samples.
        inputs: of the network.
        actions: (B, H, A), normalized and zero-padded.
        action_mask: (B, H, A) bool, True where an action dimension exists.
        seed_of: a seed for a purpose, another one in every step and process.
    """

    number: int
    plan: TrainingPlan
    samples: NDArray[np.int64]
    inputs: ModelInputs
    actions: Tensor
    action_mask: Tensor
    seed_of: Callable[[str], int]


@dataclass(frozen=True)
class Part:
    """Samples of a step that go through the network at once, on its device; the gradients of parts add up.

    Attributes:
        step: the whole of it.
        number: of the part, from 0 to `step.plan.accumulation` - 1.
        inputs: of the network.
        actions: (b, H, A).
        action_mask: (b, H, A).
        targets: what the losses have made of the step, (b, ...) each.
        outputs: of the modules that losses watch, in all forwards that losses earlier in the list have done.
    """

    step: TrainingStep
    number: int
    inputs: ModelInputs
    actions: Tensor
    action_mask: Tensor
    targets: Mapping[str, Tensor]
    outputs: Outputs


class Loss(ABC):
    """One of the losses of a run.

    Attributes:
        name: its figure in the log is called `{name}_loss`. No other loss of the run has this name, nor a
            target, a layer, a figure or a key of the identity of the same name.
        weight: in the sum.
        watches: names of the modules of the network whose outputs it reads.
    """

    name: str
    weight: float = 1.0
    watches: Sequence[str] = ()

    @abstractmethod
    def __call__(self, model: GR00T_N1_5, part: Part) -> tuple[Tensor, Mapping[str, float]] | None:
        """The loss of a part, a scalar, and further figures for the log; None: this part has none.

        What is a mean over samples is one over those of the whole step: the losses of its parts are added up.
        """

    def layers(self) -> Mapping[str, nn.Module]:
        """Layers that are trained with the network and not saved with it, by their name in the state."""
        return {}

    def targets(self, model: GR00T_N1_5, step: TrainingStep) -> Mapping[str, Tensor]:
        """What it needs besides what the transform gives, (B, ...) each, on the CPU.

        Raises:
            ValueError: it cannot learn from this step.
        """
        return {}

    def identity(self) -> Mapping[str, Any]:
        """What a run that goes on must agree in, as JSON."""
        return {}


def joined(kind: str, given: Iterable[tuple[str, Mapping[str, T]]]) -> dict[str, T]:
    """What several give by name, as one mapping.

    Args:
        kind: what it is, for the error.
        given: by whom, and what.

    Raises:
        ValueError: two give something of one name, of which one would be lost.
    """
    found: dict[str, T] = {}
    owners: dict[str, str] = {}
    for owner, values in given:
        for name, value in values.items():
            if name in owners:
                raise ValueError(
                    f"losses: {owners[name]} and {owner} both have {kind} {name!r}; expected another for each"
                )
            owners[name], found[name] = owner, value
    return found


class _Kept(dict[str, list[Tensor]]):
    def __missing__(self, name: str) -> NoReturn:
        raise ValueError(
            f"a loss reads what {name} puts out, but no loss before it has made the network compute that: "
            "expected a place later in the list of losses, and the module among those that it watches"
        )


@contextmanager
def watched(model: nn.Module, names: Iterable[str]) -> Iterator[Outputs]:
    """Keep what these modules put out in this context; to read what none has put out yet is a ValueError."""
    outputs = _Kept()

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: outputs.setdefault(name, []).append(output)

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in dict.fromkeys(names)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def part_of(
    step: TrainingStep, number: int, targets: Mapping[str, Tensor], outputs: Outputs, device: torch.device
) -> Part:
    """Part `number` of a step, brought to a device."""
    count = len(step.actions) // step.plan.accumulation
    chosen = slice(number * count, (number + 1) * count)
    return Part(
        step,
        number,
        step.inputs.part(chosen.start, chosen.stop).to(device, torch.float32),
        step.actions[chosen].to(device),
        step.action_mask[chosen].to(device),
        {name: values[chosen].to(device) for name, values in targets.items()},
        outputs,
    )
