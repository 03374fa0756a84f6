"""Run inside a simulator's process: the expert plays what the tests compare, and prints it as JSON.

expert_episode_in_simulator.py ASSETS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.observation import Observation
from gr00t.libero.simulator.simulator import LiberoSimulator
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks

LIMIT = 280


def facts(assets: Path) -> dict[str, Any]:
    """An episode first and after others, disturbed, replayed open loop, and watched."""
    tasks = load_tasks(find_suite("libero_object"), libero_package())
    simulator = LiberoSimulator(assets)
    simulator.open_task(tasks[1], 0)
    first = play_expert(simulator, 0, LIMIT)
    noisy = [play_expert(simulator, 0, 40, 0.3, seed).actions for seed in (1, 1, 2)]
    simulator.open_task(tasks[6], 0)
    play_expert(simulator, 2, 60)
    simulator.open_task(tasks[1], 0)

    # Watched as for a demonstration, with noise: what was seen, done and meant at every twentieth step.
    seen: list[Observation] = []
    executed: list[NDArray[np.float64]] = []
    meant: list[NDArray[np.float64]] = []

    def on_step(observe: Any, done: NDArray[np.float64], clean: NDArray[np.float64]) -> None:
        if len(executed) % 20 == 0:
            seen.append(observe())
        executed.append(done)
        meant.append(clean)

    watched = play_expert(simulator, 0, 40, 0.3, 1, on_step=on_step)
    again = play_expert(simulator, 0, LIMIT, record_every=25)
    simulator.start_episode(0)
    replayed = simulator.execute(first.actions)
    lifted = lifted_wrong(simulator)
    simulator.close()
    return {
        "success": first.success,
        "steps": first.steps,
        "renders": first.timing.renders,
        "largest_action": float(np.abs(first.actions).max()),
        "again": bool(np.array_equal(first.actions, again.actions)),
        "frames": [list(frame.shape) for frame in again.frames],
        "replayed": [replayed.success, replayed.steps],
        "noise_repeats": bool(np.array_equal(noisy[0], noisy[1])),
        "noise_differs": float(np.abs(noisy[0] - noisy[2]).max()),
        "watched": bool(np.array_equal(watched.actions, noisy[0])),
        "executed": bool(np.array_equal(executed, watched.actions)),
        "meant_differs": float(np.abs(np.array(meant) - executed)[:, :3].mean()),
        "same_gripper": bool(np.array_equal(np.array(meant)[:, 6], np.array(executed)[:, 6])),
        "seen": [[list(view.image.shape), view.state[:3].tolist()] for view in seen],
        "lifted": lifted,
        "torch": "torch" in sys.modules,
    }


def lifted_wrong(simulator: LiberoSimulator) -> dict[str, str | None]:
    """What one and the same episode is said to have lifted wrongly, under its own prompt and another."""
    tasks = load_tasks(find_suite("libero_object_prompts"), libero_package())
    simulator.open_task(tasks[1], 0)
    played = play_expert(simulator, 0, LIMIT)
    found = {"own prompt": played.timing.lifted_wrong}
    simulator.open_task(tasks[0], 0)
    simulator.start_episode(0)
    found["other prompt"] = simulator.execute(played.actions).lifted_wrong
    found["later"] = simulator.execute(played.actions[-1:]).lifted_wrong
    simulator.start_episode(0)
    found["next episode"] = simulator.execute(played.actions[:30]).lifted_wrong
    return found


def main() -> None:
    # LIBERO prints; the result alone goes to stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(facts(Path(sys.argv[1])), out)


if __name__ == "__main__":
    main()
