"""Run inside a simulator's process: wide placements of one scene, as JSON on stdout.

placement_in_simulator.py ASSETS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.libero.expert.scene import Scene
from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.simulator import LiberoSimulator
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks

STATE = 3


def places(simulator: LiberoSimulator) -> dict[str, list[float]]:
    scene = Scene(simulator._env)
    return {name: scene.object_position(name).tolist() for name in scene.objects}


def facts(assets: Path) -> dict[str, Any]:
    """Places of the objects, recorded and wide, for one prompt of the scene."""
    prompt = load_tasks(find_suite("libero_object_prompts"), libero_package())[1]
    simulator = LiberoSimulator(assets)
    simulator.open_task(prompt, 0)
    simulator.settle(STATE)
    found: dict[str, Any] = {"language": prompt.language, "recorded": places(simulator)}
    goals = Scene(simulator._env).goals()
    for name, seed in (("wide", 0), ("other_seed", 1)):
        simulator.open_task(prompt, seed, "wide")
        simulator.settle(STATE)
        found[name] = places(simulator)
        found[f"{name}_positions"] = simulator.positions().tolist()
    simulator.settle(STATE)
    found["again"] = bool(np.array_equal(simulator.positions(), found["other_seed_positions"]))
    played = play_expert(simulator, STATE, 280)
    simulator.open_task(prompt, 0, "wide")
    found["reopened"] = steps_to_settle(simulator)
    found["known"] = sorted(simulator._accepted)
    found["same_place"] = simulator.positions().tolist() == found["wide_positions"]
    simulator._accepted.clear()
    found["proven_anew"] = steps_to_settle(simulator)
    simulator._accepted.clear()
    simulator.settle(STATE, prove=False)
    found["unproven"] = simulator.positions().tolist() == found["wide_positions"]
    found["remembered"] = len(simulator._accepted)
    simulator.close()
    return {**found, "goals": goals, "solved": played.success, "steps": played.steps}


def steps_to_settle(simulator: LiberoSimulator) -> int:
    """Control steps until the policy may begin."""
    move = simulator._move
    counted: list[int] = []
    simulator._move = lambda *args: (counted.append(1), move(*args))[1]  # type: ignore[method-assign]
    simulator.settle(STATE)
    simulator._move = move  # type: ignore[method-assign]
    return len(counted)


def main() -> None:
    # LIBERO prints; the result alone goes to stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(facts(Path(sys.argv[1])), out)


if __name__ == "__main__":
    main()
