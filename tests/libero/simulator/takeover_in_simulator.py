"""Run inside a simulator's process: the expert takes over what others began, and tells how it went, as JSON.

takeover_in_simulator.py ASSETS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.expert.expert import ScriptedExpert, plan
from gr00t.libero.expert.scene import Goal, Scene
from gr00t.libero.simulator.observation import StepResult
from gr00t.libero.simulator.simulator import LiberoSimulator
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks

STATE, LIMIT = 3, 280
WRONG = "alphabet_soup_1"


class OtherTask(Scene):
    """The same scene, but the soup is wanted."""

    def goals(self) -> list[Goal]:
        return [["in", WRONG, "basket_1_contain_region"]]


def take_over(simulator: LiberoSimulator, result: StepResult) -> dict[str, Any]:
    """What was in the hand, how the elbow stood, and in how many steps the expert solves it from there."""
    scene = Scene(simulator.env)
    found = {"in_hand": scene.in_hand(), "elbow": scene.elbow}
    expert, steps = ScriptedExpert(scene), 0
    while not result.success and steps < LIMIT:
        simulator.step(expert.act(), result)
        steps += 1
    wrong, basket = scene.region(WRONG).center, scene.region("basket_1_contain_region").center
    beside = float(np.abs(wrong - basket)[:2].max())
    return {**found, "solved": result.success, "steps": steps, "wrong_beside": beside}


def facts(assets: Path) -> dict[str, Any]:
    """One episode each, of the prompt for the butter: what came before is in the name."""
    prompt = load_tasks(find_suite("libero_object_prompts"), libero_package())[1]
    simulator = LiberoSimulator(assets)
    simulator.open_task(prompt, 0)
    found = {}

    def follow(scene: Scene, steps: int, result: StepResult) -> None:
        for _, action in zip(range(steps), plan(scene), strict=False):
            simulator.step(action, result)

    def repeat(action: list[float], steps: int, result: StepResult) -> None:
        command: NDArray[np.float64] = np.array(action)
        for _ in range(steps):
            simulator.step(command, result)

    result = simulator.settle(STATE)
    follow(OtherTask(simulator.env), 75, result)
    found["wrong object"] = take_over(simulator, result)

    result = simulator.settle(STATE)
    follow(Scene(simulator.env), 70, result)
    found["right object"] = take_over(simulator, result)

    result = simulator.settle(STATE)
    repeat([1.0, 0.0, 0.25, 0.0, 0.0, 0.0, 1.0], 35, result)
    repeat([-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 8, result)
    found["far out"] = take_over(simulator, result)
    simulator.close()
    return found


def main() -> None:
    # LIBERO prints; the result alone goes to stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(facts(Path(sys.argv[1])), out)


if __name__ == "__main__":
    main()
