"""Training GR00T N1.5, from scratch or from a checkpoint, on demonstrations.

The network, its inputs and its transforms are those that infer. Every step's batch, augmentations, noises
and times follow from (seed, step) and the number of processes alone, so a run that was cut off and resumed
ends with the same weights as one that was not.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gr00t.data.transform.base import ComposedModalityTransform
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.inputs import ModelInputs
from gr00t.training.distributed import SINGLE_PROCESS, ProcessGroup
from gr00t.training.flow_matching import FlowMatching
from gr00t.training.lora import add_lora_, merged
from gr00t.training.losses import Loss, Part, TrainingStep, joined, part_of, watched
from gr00t.training.plan import TrainingPlan, choose_parameters
from gr00t.training.state import STATE_FILE, read_state, write_state

FLOW_MATCHING = FlowMatching()


class TrainingError(ValueError):
    """A run that cannot go on; the message says why."""


class Samples(Protocol):
    """What is trained on; `gr00t.data.lerobot.dataset.LeRobotDataset` is one."""

    def __len__(self) -> int:
        """Number of time steps."""

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Choose `count` numbers of time steps to train on."""

    def batch(self, steps: np.ndarray) -> dict[str, Any]:
        """Return samples by number, under the keys of the data configuration, with a batch dimension."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Attributes:
        samples: their numbers.
        values: the transforms' output: the model's inputs, `action` and `action_mask`.
    """

    samples: NDArray[np.int64]
    values: dict[str, Any]


class Trainer:
    """One run over `plan.steps` steps.

    Args:
        model: trained in place, float32.
        samples: the demonstrations.
        transform: of the data configuration, bound to the model; put into train mode.
        plan: what to do.
        device: where to compute.
        losses: what a step minimizes; a loss reads what those before it have made the network compute.
        group: the processes of this run; each has a trainer of its own, whose arguments are the others' but
            for what the losses are about, which may be its share.
        data_identity: what else a run that goes on must agree in, as JSON: of the data, of the start.

    Raises:
        ValueError: two losses have one name, or layers or a key of the identity of one name. That they have a
            target or a figure of one name is found in the first step.

    Attributes:
        step: steps done.
    """

    def __init__(
        self,
        model: GR00T_N1_5,
        samples: Samples,
        transform: ComposedModalityTransform,
        plan: TrainingPlan,
        device: torch.device,
        losses: Sequence[Loss] = (FLOW_MATCHING,),
        group: ProcessGroup = SINGLE_PROCESS,
        data_identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model.to(device)
        self.plan = plan
        self.step = 0
        self._group = group
        self._share = group.share_of("batch_size", plan.batch_size)
        self._samples = samples
        self._transform = transform
        transform.train()
        self._device = device
        self._data_identity = dict(data_identity or {})
        self._dropped = torch.Generator(device)
        if plan.lora is not None:
            add_lora_(model, plan.lora, _seed(plan.seed, 0, "lora"), self._dropped)
        self._parameters = choose_parameters(model, plan.parts, plan.lora)
        self._of_the_model = set(self._parameters)
        self._losses = losses
        joined("the name", ((loss.name, {loss.name: loss}) for loss in losses))
        self._identity()
        for name, layers in joined("layers", ((loss.name, loss.layers()) for loss in losses)).items():
            self._parameters.update(layers.to(device).named_parameters(prefix=name))
        decayed = [value for value in self._parameters.values() if value.ndim > 1]
        others = [value for value in self._parameters.values() if value.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": plan.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=plan.learning_rate,
            betas=plan.betas,
            fused=True,
        )
        self._average = {
            name: value.detach().clone() for name, value in self._parameters.items() if plan.ema_decay
        }

    def run(self) -> Generator[dict[str, float], None, None]:
        """Train to the end; yield step, loss, learning_rate, gradient_norm and seconds after every step.

        Raises:
            TrainingError: the loss is no longer finite.
        """
        # One batch ahead: the next one is read and augmented while this one is learned from.
        with ThreadPoolExecutor(1) as ahead:
            upcoming = ahead.submit(self.prepare, self.step)
            while self.step < self.plan.steps:
                started = time.perf_counter()
                batch = upcoming.result()
                if self.step + 1 < self.plan.steps:
                    upcoming = ahead.submit(self.prepare, self.step + 1)
                figures = self._learn(batch)
                self.step += 1
                yield {"step": self.step, **figures, "seconds": time.perf_counter() - started}

    def prepare(self, step: int) -> Batch:
        """Return this process' share of a step's batch, the same one whenever it is asked for."""
        chosen = np.random.default_rng(_seed(self.plan.seed, step, "samples"))
        steps = self._samples.draw(chosen, self.plan.batch_size * self.plan.accumulation)
        own = self._share * self.plan.accumulation
        steps = steps[self._group.rank * own :][:own]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed(step, "augmentation"))
            return Batch(steps, self._transform(self._samples.batch(steps)))

    def save(self, folder: Path) -> None:
        """Write the state of the run for `resume`; an earlier one stays until this one is whole."""
        state = {
            "run": self._identity(),
            "step": self.step,
            "parameters": {name: value.detach() for name, value in self._parameters.items()},
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
        }
        write_state(state, folder)

    def resume(self, folder: Path) -> bool:
        """Go on from what `save` wrote; False if there is nothing.

        Raises:
            StateError: what is there is damaged.
            TrainingError: it was another run; the message names what differs.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            return False
        state = read_state(path, self._device)
        # A run that began before the plan had a field did what the field's default says.
        old, new = {**_defaults(), **state["run"]}, self._identity()
        # Earlier versions wrote a weight of 0 for a loss that the run did not have.
        lacking = {key: None for key, value in old.items() if key not in new and value}
        differing = [
            f"{key} {old.get(key)} -> {value}"
            for key, value in {**new, **lacking}.items()
            if old.get(key) != value and (key in old or key not in self._data_identity)
        ]
        if differing:
            raise TrainingError(f"{path} is of another run: {', '.join(differing)}; name another folder")
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(state["parameters"][name])
            for name, kept in self._average.items():
                kept.copy_(state["average"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        return True

    def _identity(self) -> dict[str, Any]:
        """Everything that a run that goes on must agree in, as JSON, which knows no tuples."""
        run = dataclasses.asdict(self.plan) | {
            "processes": self._group.size,
            "time_steps": len(self._samples),
            **self._data_identity,
        }
        of_losses = ((loss.name, loss.identity()) for loss in self._losses)
        run = joined("a key of the identity", (("the run", run), *of_losses))
        identity: dict[str, Any] = json.loads(json.dumps(run))
        return identity

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The weights to keep, by name, one by one: averaged where `ema_decay` is set, LoRA merged."""
        values = self.trained()
        state = {name: values.get(name, value) for name, value in self.model.state_dict().items()}
        return merged(state, self.plan.lora.scale) if self.plan.lora is not None else iter(state.items())

    def trained(self) -> dict[str, Tensor]:
        """What was trained of the model's parameters, by name: averaged where `ema_decay` is set."""
        values = self._average if self.plan.ema_decay else self._parameters
        return {name: value.detach() for name, value in values.items() if name in self._of_the_model}

    def _learn(self, batch: Batch) -> dict[str, float]:
        plan = self.plan
        rate = plan.learning_rate_at(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        told = self._backward(batch)
        parameters: list[nn.Parameter] = list(self._parameters.values())
        figures = self._group.average(parameters, {**told, "learning_rate": rate})
        norm = nn.utils.clip_grad_norm_(parameters, plan.gradient_clip)
        figures["gradient_norm"] = float(norm)
        if not np.isfinite(figures["loss"]) or not np.isfinite(figures["gradient_norm"]):
            raise TrainingError(f"step {self.step}: loss {figures['loss']}; try a smaller learning rate")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if plan.ema_decay:
            weight = 1.0 - plan.ema_decay_at(self.step)
            torch._foreach_lerp_(list(self._average.values()), [p.detach() for p in parameters], weight)
        return figures

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Add up the gradient of a step's batch, part by part; return its losses."""
        plan, values = self.plan, batch.values
        step = TrainingStep(
            number=self.step,
            plan=plan,
            samples=batch.samples,
            inputs=ModelInputs.from_mapping(values, self.model.config),
            actions=values["action"],
            action_mask=values["action_mask"],
            seed_of=functools.partial(self._seed, self.step),
        )
        targets = joined("a target", ((loss.name, loss.targets(self.model, step)) for loss in self._losses))
        watches = [name for loss in self._losses for name in loss.watches]
        self._dropped.manual_seed(step.seed_of("dropout"))
        told: dict[str, float] = {}
        for number in range(plan.accumulation):
            with (
                torch.autocast(self._device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"),
                watched(self.model, watches) as outputs,
            ):
                total, figures = self._sum_of_losses(part_of(step, number, targets, outputs, self._device))
            total.backward()
            for name, value in {"loss": total.item(), **figures}.items():
                told[name] = told.get(name, 0.0) + value
        return told

    def _sum_of_losses(self, part: Part) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum, a scalar, and the figures of all losses."""
        total = torch.zeros((), device=self._device)
        figures: list[tuple[str, Mapping[str, float]]] = []
        for loss in self._losses:
            found = loss(self.model, part)
            if found is not None:
                value, more = found
                total = total + loss.weight * value
                figures += [(loss.name, {f"{loss.name}_loss": value.item()}), (loss.name, more)]
        return total, joined("a figure", figures)

    def _seed(self, step: int, purpose: str) -> int:
        """One for this process."""
        return _seed(self.plan.seed, step, f"{purpose} {self._group.rank}" if self._group.rank else purpose)


def _seed(seed: int, step: int, purpose: str) -> int:
    """A number in [0, 2^32) for one purpose of one step."""
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _defaults() -> dict[str, Any]:
    """The plan's fields that need not be given, as an identity holds them."""
    fields = dataclasses.fields(TrainingPlan)
    given = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    defaults: dict[str, Any] = json.loads(json.dumps(given))
    return defaults
