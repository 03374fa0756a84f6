"""Run inside a simulator's process: labelled scenes of two tasks, and what the tests compare, as JSON.

scenes_in_simulator.py ASSETS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.libero.datagen.labelled_scenes import Strewn, kind_of, middles, sample_scenes, visible_centres
from gr00t.libero.expert.scene import Scene
from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.simulator import LiberoSimulator
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks

KINDS = ["milk", "butter", "basket", "orange juice"]
STATES = [20, 21]


def facts(assets: Path) -> dict[str, Any]:
    """Scenes twice and under another seed, and labels beside projected positions in the second task."""
    tasks = load_tasks(find_suite("libero_object"), libero_package())
    simulator = LiberoSimulator(assets)
    simulator.open_task(tasks[0], 0)
    scenes = [sample_scenes(simulator, KINDS, STATES, 3, [seed], 64) for seed in (1, 1, 2)]
    reached = way_to_what_is_held(simulator)
    simulator.open_task(tasks[6], 0)
    simulator.start_episode(20)
    strewn = Strewn(simulator.env)
    random = np.random.default_rng(0)
    distances = []
    places = []
    for _ in range(8):
        strewn.strew(random)
        simulator.env.sim.forward()
        seen = visible_centres(simulator.env, "agentview", KINDS)
        for kind, centre in zip(KINDS, seen, strict=True):
            name = f"{kind.replace(' ', '_')}_1"
            if name in Scene(simulator.env).objects and not np.isnan(centre).any():
                distances.append(float(np.linalg.norm(centre - projected(simulator.env, name))))
        places.append(Scene(simulator.env).object_position("butter_1")[:2].tolist())
    simulator.close()
    return {
        "images": list(scenes[0].images.shape),
        "centres": list(scenes[0].centres.shape),
        "repeats": bool(np.array_equal(scenes[0].images, scenes[1].images)),
        "same_labels": bool(np.array_equal(scenes[0].centres, scenes[1].centres, equal_nan=True)),
        "differs": bool(np.array_equal(scenes[0].images, scenes[2].images)),
        "states": list(scenes[0].states.shape),
        "same_states": bool(np.array_equal(scenes[0].states, scenes[1].states)),
        "gone": bool(np.isnan(scenes[0].positions[:, KINDS.index("orange juice")]).all()),
        "reached": reached,
        "absent": bool(np.isnan(scenes[0].centres[:, :, KINDS.index("orange juice")]).all()),
        "seen": float(np.isfinite(scenes[0].centres[:, 0, :3]).mean()),
        "distances": distances,
        "spread": np.ptp(places, axis=0).tolist(),
    }


def way_to_what_is_held(simulator: LiberoSimulator) -> float:
    """Metres from the hand to the object that the expert carries, by state and label of one scene."""
    scene = Scene(simulator.env)
    ways = []

    def on_step(observe: Any, executed: Any, meant: Any) -> None:
        name = scene.goals()[0][1]
        if scene.object_position(name)[2] > 0.2:
            state = observe().state
            ways.append(float(np.linalg.norm(middles(scene, [kind_of(name)])[0] - state[:3])))

    play_expert(simulator, 20, 200, on_step=on_step)
    return max(ways[:5])


def projected(env: Any, name: str) -> np.ndarray:
    """Where the middle of an object's boxes appears in the agent's view, by a pinhole camera."""
    sim = env.sim
    camera = sim.model.camera_name2id("agentview")
    corners = Scene(env).corners(name)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    local = sim.data._data.cam_xmat[camera].reshape(3, 3).T @ (middle - sim.data._data.cam_xpos[camera])
    half = np.tan(np.deg2rad(sim.model._model.cam_fovy[camera]) / 2)
    right, up = local[:2] / -local[2] / half
    # The image is rotated by half a turn, and MuJoCo's rows already run upwards: left becomes right.
    return np.array([(1 - right) / 2, (1 - up) / 2])


if __name__ == "__main__":
    # LIBERO prints; the result alone goes to stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(facts(Path(sys.argv[1])), out)
