"""One simulated control step with two camera images, by way of drawing: milliseconds, memory, pixels.

    python scripts/bench/simulator.py --suite libero_object --assets stand-ins
    LIBERO_ASSETS=FOLDER python scripts/bench/simulator.py --suite libero_spatial --renderings full,fast

Every way of drawing has a simulator process of its own. All play the same actions in turns, a step of each
per round, so that a busy machine slows all of them alike: ratios are medians over rounds, and times are given
as median and as the quietest tenth. Pixels and positions are compared with the first way's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from gr00t.console import log_to_stderr
from gr00t.libero.assets.location import resolve_assets
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.simulator.observation import CAMERAS
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.rendering import Rendering
from gr00t.libero.simulator.simulator import LiberoSimulator, SimulatorError
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks
from gr00t.machine import describe_host

PARTS = ("step", *CAMERAS.values(), "all")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """One simulated control step with two camera images, by way of drawing."""

    suite: str = "libero_object"
    """Suite to take the scene from."""
    task: int = 0
    """Its task."""
    assets: str = "auto"
    """auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), or one of them, or a folder."""
    renderings: str = "full,light,fast"
    """Ways to compare; the first is what the others are compared with."""
    rounds: int = 60
    """Control steps, each done by every simulator in turn."""
    image_size: int = 256
    """Side of the square images."""
    gl: str = "auto"
    """osmesa, egl, or auto."""


@dataclasses.dataclass
class Player:
    """One way of drawing and what was measured of it: seconds by part and round, and images."""

    name: str
    simulator: SimulatorProcess
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=lambda: {part: [] for part in PARTS})
    views: list[NDArray[np.uint8]] = dataclasses.field(default_factory=list)


def main(arguments: Arguments, environ: dict[str, str]) -> None:
    """Print the table, and the same as JSON in the last line."""
    suite, package = find_suite(arguments.suite), libero_package()
    task = load_tasks(suite, package, environ)[arguments.task]
    backend = choose_backend(arguments.gl, environ)
    assets = resolve_assets(suite, package=package, environ=environ, choice=arguments.assets)
    child = simulator_environ(environ, backend=backend, package=package)
    with tempfile.TemporaryDirectory() as scratch:
        players = [
            Player(
                name,
                SimulatorProcess(
                    assets.path,
                    child,
                    Path(scratch) / f"{name}.log",
                    rendering=Rendering.parse(name),
                    image_size=arguments.image_size,
                ),
            )
            for name in arguments.renderings.split(",")
        ]
        try:
            for player in players:
                player.simulator.open_task(task, seed=0)
                player.simulator.run(LiberoSimulator.start_episode, 0)
            difference = play(players, arguments.rounds)
            rows = [summarize(player, players[0]) for player in players]
        finally:
            for player in players:
                player.simulator.close()
    print(f"{describe_host()}; {backend}; {suite.name} task {task.index}, {assets.kind} assets")
    print(
        f"{'':<8}{'ms: step':>9}{'agent':>8}{'wrist':>8}{'all':>8}{'quiet':>8}{'x':>7}{'MiB':>7}"
        f"{'agent diff':>12}{'wrist diff':>12}"
    )
    for row in rows:
        step, agent, wrist, every = (row["ms"][part] for part in PARTS)
        print(
            f"{row['rendering']:<8}{step:>9.1f}{agent:>8.1f}{wrist:>8.1f}{every:>8.1f}{row['quiet_ms']['all']:>8.1f}"
            f"{row['speedup']:>7.2f}{row['rss_mib']:>7.0f}{row['difference'][0]:>12.2f}"
            f"{row['difference'][1]:>12.2f}"
        )
    print(f"largest difference of any position: {difference}")
    facts = {"suite": suite.name, "task": task.index, "assets": assets.kind, "gl": backend}
    print(json.dumps({**facts, "image_size": arguments.image_size, "max_dqpos": difference, "rows": rows}))


def play(players: list[Player], rounds: int) -> float:
    """Do the same random steps with all; returns the largest difference of any position from the first's."""
    generator = np.random.default_rng(0)
    actions = np.clip(generator.normal(0, 0.4, (rounds + 1, 1, 7)), -1, 1)
    difference = 0.0
    for index, action in enumerate(actions):
        for player in players[index % len(players) :] + players[: index % len(players)]:
            started = time.perf_counter()
            progress = player.simulator.run(LiberoSimulator.execute, action)
            elapsed = time.perf_counter() - started
            if index == 0 or progress.observation is None:
                continue  # the first step warms up; a task solved by chance draws nothing
            player.seconds["step"].append(progress.step_seconds)
            for camera, seconds in progress.camera_seconds.items():
                player.seconds[camera].append(seconds)
            player.seconds["all"].append(elapsed)
            seen = progress.observation
            player.views.append(np.stack([seen.image, seen.wrist_image]))
        first, *others = (player.simulator.run(LiberoSimulator.positions) for player in players)
        difference = max([difference, *(float(np.abs(other - first).max()) for other in others)])
    return difference


def summarize(player: Player, first: Player) -> dict[str, Any]:
    """Times, the median speed-up over `first`, memory, and the mean pixel difference of 255 by camera."""
    seconds = {part: np.array(values) for part, values in player.seconds.items()}
    off = [
        np.abs(mine.astype(np.int16) - other).mean(axis=(1, 2, 3))
        for mine, other in zip(player.views, first.views, strict=True)
    ]
    return {
        "rendering": player.name,
        "ms": {part: round(1000 * float(np.median(values)), 2) for part, values in seconds.items()},
        "quiet_ms": {part: round(1000 * float(np.quantile(v, 0.1)), 2) for part, v in seconds.items()},
        "speedup": round(float(np.median(np.array(first.seconds["all"]) / seconds["all"])), 3),
        "rss_mib": round(player.simulator.memory_mib(), 1),
        "difference": [round(float(value), 3) for value in np.mean(off, axis=0)],
    }


if __name__ == "__main__":
    log_to_stderr()
    try:
        main(tyro.cli(Arguments, description=__doc__), dict(os.environ))
    except (LiberoError, SimulatorError) as error:
        sys.exit(f"error: {error}")
