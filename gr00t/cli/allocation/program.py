"""Measure every layer alone at every number of bits, allocate, measure the whole, and write all of it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from gr00t.cli.allocation.arguments import AllocationTask
from gr00t.cli.allocation.identity import identity
from gr00t.cli.allocation.material import find_observations, recorded_statistics
from gr00t.cli.allocation.trial import TrialPolicy
from gr00t.cli.calibration.sources import request_seed
from gr00t.cli.gate.grippers import gripper_sides
from gr00t.cli.serving.policy import load_by_flags
from gr00t.data.errors import ObservationError
from gr00t.eval.allocation.budget import AllocationError, bits_per_weight
from gr00t.eval.allocation.greedy import Allocation, Choice, allocate, extremes, uniform
from gr00t.eval.allocation.measured_errors import MeasuredErrors
from gr00t.eval.allocation.outcome import Measured, Outcome, page
from gr00t.eval.allocation.plot import save
from gr00t.eval.allocation.recipe_text import recipe_text
from gr00t.eval.allocation.stored import weight_bytes
from gr00t.eval.drift.chunks import Chunks
from gr00t.eval.drift.logarithms import geometric_mean
from gr00t.eval.drift.measure import Grippers, relative_errors
from gr00t.files.atomic import atomic_write, replace_file
from gr00t.files.output_folder import writing
from gr00t.machine import describe_machine
from gr00t.model.checkpoint.folder import module_aliases
from gr00t.quantization import IntFormat, plan
from gr00t.quantization.kernels.library import load as load_kernels
from gr00t.quantization.settings.environment import to_environ
from gr00t.quantization.settings.selection import LayerPlan

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy
    from gr00t.model.preprocessing.prepared_observation import PreparedObservation

logger = logging.getLogger("gr00t.allocate")

Measure = Callable[[Mapping[str, int]], float]


def allocate_bits(task: AllocationTask, environ: Mapping[str, str]) -> Outcome:
    """Do all of it; return what came of it.

    Args:
        task: what `check_arguments` has returned.
        environ: whose compiler and cache the kernels come from, and what a simulator finds its way by.

    Raises:
        UsageError, AllocationError and other ValueErrors: packs or observations that cannot be used, or a
            budget that no allocation meets.
        SimulatorError, OSError: from rollouts and files.
    """
    arguments = task.arguments
    load_kernels(environ)
    policy = load_by_flags(arguments, arguments.checkpoint, to_environ({"ENABLE": "0"}))
    layers = _selected(task, policy)
    grippers = gripper_sides(arguments.gripper, policy)
    statistics = recorded_statistics(
        task.packdir,
        {layer.name: layer.linear for layer in layers},
        getattr(torch, task.calibrated_dtype),
    )
    observations, where = find_observations(arguments, policy, environ)
    requests = _prepared(policy, observations, arguments.seed)
    trial = TrialPolicy(policy, task.config.scheme, statistics, requests, arguments.batch)
    sizes = _sizes(trial, layers, sorted(arguments.bits))
    shapes = {layer.name: (layer.linear.out_features, layer.linear.in_features) for layer in layers}
    budget = _checked_budget(task, sizes, sum(n * k for n, k in shapes.values()))
    logger.info(
        "%d layers, %s, %d denoising steps: %d measurements",
        *(len(layers), where, policy.denoising_steps, sum(map(len, sizes.values()))),
    )
    facts = identity(task, policy, observations, statistics, list(grippers))
    with (
        writing(arguments.output, "--output"),
        MeasuredErrors(arguments.output, facts) as measured,
        tqdm(total=sum(map(len, sizes.values())), desc="each layer alone", unit="measurement") as bar,
    ):
        measure = _measuring(trial, trial.answers({}), grippers, arguments.executed, measured)
        choices = _choices(sizes, measured, measure, bar)
        bar.close()
        found = allocate(choices, budget)
        chosen = Measured("allocated", found, measure(found.bits))
        beside = [
            Measured(f"W{bits} everywhere", of_all, measure(of_all.bits))
            for bits, of_all in _around(choices, sorted(arguments.bits), budget)
        ]
    outcome = Outcome(
        name=task.name,
        budget=task.budget.text,
        budget_bytes=budget,
        shapes=shapes,
        choices=choices,
        chosen=chosen,
        uniform=beside,
        facts={
            "checkpoint": arguments.checkpoint,
            "recipe": task.recipe.name,
            "measured by": where,
            "denoising steps": policy.denoising_steps,
            "dtype": arguments.dtype,
        },
        machine=describe_machine(str(policy.device)),
    )
    with writing(arguments.output, "--output"):
        _write(task, outcome)
    return outcome


def _selected(task: AllocationTask, policy: Gr00tPolicy) -> list[LayerPlan]:
    """The layers that get bits, in model order."""
    # Bits of single layers are what is looked for.
    scheme = dataclasses.replace(task.config.scheme, weight=IntFormat(8), weight_by_layer=())
    plans = plan(policy.model, scheme, task.config.layer_filter, aliases=module_aliases(policy.model))
    return [layer for layer in plans if layer.spec is not None]


def _prepared(
    policy: Gr00tPolicy, observations: Sequence[dict[str, Any]], seed: int
) -> list[PreparedObservation]:
    prepared = []
    for index, observation in enumerate(observations):
        try:
            prepared.append(policy.prepare(observation, seeds=request_seed(seed, index)))
        except ObservationError as error:
            raise ObservationError(
                f"observation {index} is none of this policy's data configuration: {error}"
            ) from error
    return prepared


def _sizes(
    trial: TrialPolicy, layers: Sequence[LayerPlan], candidates: Sequence[int]
) -> dict[str, dict[int, int]]:
    """Bytes of every layer at each number of bits."""
    sizes: dict[str, dict[int, int]] = {layer.name: {} for layer in layers}
    for bits in candidates:
        for found in trial.plans(dict.fromkeys(sizes, bits)):
            assert found.spec is not None
            sizes[found.name][bits] = weight_bytes(found.spec)
    return sizes


def _checked_budget(task: AllocationTask, sizes: Mapping[str, Mapping[int, int]], weights: int) -> int:
    """The bytes that the weights may take.

    Raises:
        AllocationError: no allocation is within the budget.
    """
    budget = task.budget.in_bytes(weights)
    ends = extremes({name: list(of_layer.values()) for name, of_layer in sizes.items()})
    smallest, largest = (
        f"{stored:,} bytes ({bits_per_weight(stored, weights):.3f} bits per weight)" for stored in ends
    )
    if budget < ends[0]:
        raise AllocationError(
            f"--budget {task.budget.text}: no allocation of --bits {' '.join(map(str, task.arguments.bits))} "
            f"takes at most {budget:,} bytes; the smallest takes {smallest}, the largest {largest}"
        )
    return budget


def _measuring(
    trial: TrialPolicy,
    base: Chunks,
    grippers: Grippers,
    executed: int,
    measured: MeasuredErrors,
) -> Measure:
    """A function that returns the error with some layers quantized, measured once."""

    def measure(bits: Mapping[str, int]) -> float:
        if bits not in measured:
            errors = relative_errors(trial.answers(bits), base, grippers, executed)
            measured.add(bits, geometric_mean(errors))
        return measured[bits]

    return measure


def _choices(
    sizes: Mapping[str, Mapping[int, int]],
    measured: MeasuredErrors,
    measure: Measure,
    bar: tqdm,
) -> dict[str, list[Choice]]:
    """Every layer alone at each number of bits."""
    # What is there already says nothing of the time that the rest takes.
    bar.update(sum({name: bits} in measured for name, of_layer in sizes.items() for bits in of_layer))
    bar.unpause()
    bar.initial = bar.n
    choices: dict[str, list[Choice]] = {}
    for name, of_layer in sizes.items():
        for bits, stored in of_layer.items():
            bar.update({name: bits} not in measured)
            choices.setdefault(name, []).append(Choice(bits, stored, measure({name: bits})))
    return choices


def _around(
    choices: Mapping[str, Sequence[Choice]], candidates: Sequence[int], budget: int
) -> list[tuple[int, Allocation]]:
    """As many bits everywhere: the most that fit into the budget, and the next."""
    everywhere = [(bits, uniform(choices, bits)) for bits in candidates]
    fitting = [pair for pair in everywhere if pair[1].stored <= budget]
    beyond = [pair for pair in everywhere if pair[1].stored > budget]
    return fitting[-1:] + beyond[:1]


def _write(task: AllocationTask, outcome: Outcome) -> None:
    """Write the recipe, the table, all data and the drawing; each appears whole."""
    allocation = outcome.chosen.allocation
    of_all = bits_per_weight(allocation.stored, outcome.weights)
    comments = (
        f"Written by gr00t-allocate for {task.budget.text}: {allocation.stored:,} bytes, {of_all:.3f} bits a "
        "weight.",
        f"err {outcome.chosen.error:.4f} of the actions ({allocation.predicted:.4f} predicted).",
        f"{outcome.machine}.",
    )
    folder, name = task.arguments.output, outcome.name
    described = f"bits allocated by action error, {of_all:.2f} a weight"
    with atomic_write(folder / f"{name}.png") as aside:
        save(aside, outcome)
    replace_file(folder / f"{name}.md", page(outcome))
    replace_file(folder / f"{name}.json", json.dumps(outcome.to_dict(), indent=1) + "\n")
    replace_file(
        folder / f"{name}.toml", recipe_text(task.recipe, name, described, comments, allocation.bits)
    )
