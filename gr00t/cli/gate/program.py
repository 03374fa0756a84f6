"""Compare arms with the policy as it is: settle, gather, ask one after the other, tell and draw."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.cli.gate.answers import Answers, Asking, named
from gr00t.cli.gate.apart import check_calibrated_apart
from gr00t.cli.gate.arguments import DriftArguments, check_first
from gr00t.cli.gate.arms import SettledArm, settle_arms
from gr00t.cli.gate.grippers import gripper_sides
from gr00t.cli.gate.loading import load, taken_layers
from gr00t.cli.gate.material import Material, MaterialFinder
from gr00t.cli.gate.servers import differences
from gr00t.cli.gate.telling import described, how, judged, table
from gr00t.eval.arms.published import suite_data_config, suite_model
from gr00t.eval.drift.chunks import Chunks
from gr00t.eval.drift.measure import Drift, measure
from gr00t.eval.drift.verdict import FITTED_ON, PASS_UP_TO, REJECT_FROM
from gr00t.files.atomic import atomic_write
from gr00t.machine import describe_machine

logger = logging.getLogger("gr00t.drift")

FEW_EPISODES = 6


def compare(arguments: DriftArguments, environ: Mapping[str, str]) -> dict[str, Any]:
    """Measure the drift of every arm; print and draw it; print it as JSON in the last line, and return it.

    Raises:
        UsageError and other ValueErrors: flags, observations or arms that cannot be used.
        SimulatorError, NoServerError, OSError: from rollouts, servers and files.
    """
    check_first(arguments)
    model = arguments.model
    if arguments.libero is not None:
        model = model or suite_model(arguments.libero)
        if arguments.data_config is None:
            arguments = dataclasses.replace(arguments, data_config=suite_data_config(arguments.libero))
    assert model is not None
    arms = settle_arms(arguments, model, environ)
    calibrated = [settled.config for settled in arms if settled.is_recorded]
    fewest = max((1, *(config.calibration_steps for config in calibrated if config))) if calibrated else 0
    finder = MaterialFinder(arguments, fewest, environ)
    policy = load(arguments, model, arguments.dtype)
    horizon = len(policy.modality_config["action"].delta_indices)
    if arguments.steps_executed > horizon:
        raise UsageError(
            f"--executed {arguments.steps_executed}: expected 1 to {horizon}, as many as the policy predicts"
        )
    grippers = gripper_sides(arguments.gripper, policy)
    for settled in arms:
        taken_layers(policy, settled)  # settings that fit no layer are said before hours of rollouts
        if settled.server is not None:
            for text in differences(settled.server[1], policy, arguments):
                logger.warning("%s: the server has %s; that counts as drift", settled.arm.name, text)
    material = finder.find(policy)
    for settled in arms:
        if settled.packs is not None:
            check_calibrated_apart(settled.arm.name, settled.packs, material.judged)
    asking = Asking(arguments, model, material, arms, environ)
    answers: dict[str, Answers] = {}
    if arguments.dtype != arguments.reference and not any(map(_is_the_policy, arms)):
        answers[arguments.dtype] = asking.unquantized(policy)
    del policy
    base = asking.base()
    tell(arguments, model, material, base.chunks)
    drifts: dict[str, Drift] = {}

    def judge(name: str) -> None:
        with named(name):
            drifts[name] = measure(
                answers[name].chunks,
                base.chunks,
                material.judged.episodes,
                grippers,
                arguments.steps_executed,
            )

    for name in answers:
        judge(name)
    for settled in arms:
        answers[settled.arm.name] = asking.arm(settled)
        judge(settled.arm.name)
        tqdm.write(how(settled.arm.name, answers[settled.arm.name]))
    print(f"\n{table(answers, drifts)}")
    result = summary(arguments, model, material, answers, drifts)
    try:
        draw(arguments, material, drifts)
        print(f"plot: {arguments.plot}")
    finally:
        # What took minutes is said, whatever becomes of its drawing.
        print(json.dumps(result))
    return result


def tell(arguments: DriftArguments, model: str, material: Material, base: Chunks) -> None:
    """Print what arms are compared with, and by what."""
    count, horizon = base.values.shape[:2]
    print(describe_machine())
    print(f"base: {model} in {arguments.reference}, {arguments.euler_steps} denoising steps")
    if material.judged.episode_count < FEW_EPISODES:
        logger.warning(
            "judged by %d episodes: their interval is wide; with %d and more a verdict says more",
            *(material.judged.episode_count, FEW_EPISODES),
        )
    print(
        f"judged by {count} observations of {material.judged.episode_count} episodes ({material.where}), "
        f"{arguments.steps_executed} of {horizon} actions executed, seed {arguments.seed}"
    )


def draw(arguments: DriftArguments, material: Material, drifts: Mapping[str, Drift]) -> None:
    """Write the drawing."""
    from matplotlib.figure import Figure

    from gr00t.eval.drift import plot

    figure = Figure()
    title = (
        f"drift from {arguments.reference}: {len(material.judged.observations)} observations of "
        f"{material.judged.episode_count} episodes, {material.where}"
    )
    with quiet_fonts(), atomic_write(arguments.plot) as aside:
        plot.draw(figure, drifts, arguments.steps_executed, title)
        figure.savefig(aside, dpi=110, format=arguments.plot.suffix.removeprefix("."))


@contextlib.contextmanager
def quiet_fonts() -> Iterator[None]:
    """Without a line for every font that is not installed: the drawing takes another."""
    fonts = logging.getLogger("matplotlib.font_manager")
    before = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        yield
    finally:
        fonts.setLevel(before)


def summary(
    arguments: DriftArguments,
    model: str,
    material: Material,
    answers: Mapping[str, Answers],
    drifts: Mapping[str, Drift],
) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "machine": describe_machine(),
        "model": model,
        "reference": arguments.reference,
        "dtype": arguments.dtype,
        "denoising_steps": arguments.euler_steps,
        "seed": arguments.seed,
        "executed": arguments.steps_executed,
        "judged": {
            "from": material.where,
            "observations": len(material.judged.observations),
            "episodes": material.judged.episode_count,
        },
        "calibrated": {"from": material.recorded_where, "observations": len(material.recorded)},
        "thresholds": {"pass": PASS_UP_TO, "reject": REJECT_FROM, "fitted_on": FITTED_ON},
        "arms": {
            name: {
                "verdict": judged(answers[name], found),
                **found.to_dict(),
                "quantized": described(answers[name]),
            }
            for name, found in drifts.items()
        },
        "plot": str(arguments.plot),
    }


def _is_the_policy(settled: SettledArm) -> bool:
    """Whether an arm is the policy as it is, in the arms' precision."""
    recipe = settled.arm.recipe
    return recipe is not None and settled.config is None and recipe.images == "camera"
