"""Let the scripted expert play LIBERO tasks, and count how often it solves them.

    python scripts/expert_rollouts.py libero_object
    python scripts/expert_rollouts.py libero_goal --tasks 1,2 --init-states 0-9 --assets stand-ins
    python scripts/expert_rollouts.py libero_object --noise 0.3 --workers 2

It needs no policy and draws nothing: a check that scenes, initial states and goals are as they should be, and
a measurement of what noise on the actions costs. The last line of the output is the result as JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.libero.simulator.expert_episode import play_expert
from gr00t.libero.simulator.pool import SimulatorPool
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import (
    Task,
    find_suite,
    libero_package,
    load_init_states,
    load_tasks,
    parse_indices,
    parse_task_indices,
)


@dataclasses.dataclass(frozen=True)
class ExpertRolloutsOptions:
    """Let the scripted expert play LIBERO tasks, and count how often it solves them."""

    suite: Annotated[str, tyro.conf.Positional]
    """libero_spatial, libero_object, libero_goal or libero_10."""
    tasks: str = "all"
    """Tasks of the suite: all, 3, 0,3 or 0-4."""
    init_states: str = "0-19"
    """Recorded initial states of each task: all, 3, 0,3 or 0-19."""
    noise: float = 0.0
    """Standard deviation of the noise on the motion commands, which lie in [-1, 1]."""
    seed: int = 0
    """Seeds the placement of fixtures and the noise."""
    max_steps: int | None = None
    """Steps after which an episode has failed (default: the suite's published limit)."""
    workers: int = 1
    """Simulators that play at the same time."""
    assets: str = "auto"
    """auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), or one of them, or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library that the simulator loads, though nothing is drawn (default: MUJOCO_GL, else osmesa)."""


@dataclasses.dataclass(frozen=True)
class ExpertRollout:
    """One episode of the expert; `success` is None if the simulator failed, `actions` what was executed."""

    task: int
    init_state: int
    success: bool | None
    steps: int
    seconds: float
    actions: bytes


def play(
    pool: SimulatorPool,
    options: ExpertRolloutsOptions,
    max_steps: int,
    tasks: Sequence[Task],
    init_states: Sequence[int],
) -> Iterator[list[ExpertRollout]]:
    """Yield the rollouts of each task, in the order of the tasks.

    A task stays with one simulator where there are enough of them, since opening it takes a second.

    Args:
        pool: The simulators.
        options: The command line.
        max_steps: Control steps after which an episode has failed.
        tasks: To be played.
        init_states: Of each task.
    """

    def play_share(simulator: SimulatorProcess, share: tuple[Task, Sequence[int]]) -> list[ExpertRollout]:
        task, states = share
        rollouts = []
        is_open = False
        for init_state in states:
            if pool.is_stopping:
                break
            started = time.perf_counter()
            try:
                if not is_open:
                    simulator.open_task(task, options.seed)
                    is_open = True
                    started = time.perf_counter()
                episode = simulator.run(play_expert, init_state, max_steps, options.noise, options.seed)
                success, steps, actions = episode.success, episode.steps, episode.actions.tobytes()
            except SimulatorError as error:
                print(f"task {task.index}, initial state {init_state}: {error}", file=sys.stderr)
                success, steps, actions, is_open = None, 0, b"", False
            seconds = time.perf_counter() - started
            rollouts.append(ExpertRollout(task.index, init_state, success, steps, seconds, actions))
        return rollouts

    # Fewer tasks than simulators: the initial states of each are dealt out.
    shares = -(-len(pool) // len(tasks))
    parts = pool.map(
        play_share, [(task, init_states[share::shares]) for task in tasks for share in range(shares)]
    )
    for _ in tasks:
        rollouts = itertools.chain.from_iterable(itertools.islice(parts, shares))
        yield sorted(rollouts, key=lambda rollout: rollout.init_state)


def run(options: ExpertRolloutsOptions, environ: dict[str, str]) -> int:
    """Play as `options` say, print a table and, as the last line, the result; return the exit status.

    Raises:
        UsageError: Flags that make no sense.
        LiberoError: A request that cannot be met.
    """
    if options.workers < 1 or options.noise < 0:
        raise UsageError("--workers must be at least 1, --noise at least 0")
    suite = find_suite(options.suite)
    all_tasks = load_tasks(suite, libero_package(), environ)
    tasks = [all_tasks[index] for index in parse_task_indices(options.tasks, suite)]
    recorded = min(len(load_init_states(task)) for task in tasks)
    init_states = parse_indices(options.init_states, recorded, "initial states")
    max_steps = suite.max_steps if options.max_steps is None else options.max_steps
    rollouts: list[ExpertRollout] = []
    with tempfile.TemporaryDirectory() as logs:
        setup = SimulatorSetup(suite, options.assets, options.gl, "full", environ, Path(logs))
        assets = setup.found_assets
        with setup.pool(options.workers) as pool:
            print(f"{suite.name}, at most {max_steps} steps, noise {options.noise:g}, assets: {assets}")
            print(
                f"{'task':>4} {'success':>8} {'steps':>6} {'max':>4} {'s/ep.':>6}  failed from; instruction"
            )
            started = time.perf_counter()
            played = play(pool, options, max_steps, tasks, init_states)
            for task, episodes in zip(tasks, played, strict=True):
                rollouts += episodes
                print(f"{row(task.index, episodes)}  {failures(episodes)}; {task.language}", flush=True)
            seconds = time.perf_counter() - started
    print(row("all", rollouts))
    print(json.dumps(result(options, suite.name, max_steps, assets.kind, rollouts, seconds)))
    return 0 if all(rollout.success is not None for rollout in rollouts) else 1


def row(name: int | str, rollouts: Sequence[ExpertRollout]) -> str:
    """Columns of the table; steps are those of successes."""
    solved = [rollout.steps for rollout in rollouts if rollout.success]
    steps = f"{statistics.mean(solved):6.0f} {max(solved):4d}" if solved else f"{'-':>6} {'-':>4}"
    seconds = statistics.mean(rollout.seconds for rollout in rollouts)
    return f"{name:>4} {f'{len(solved)}/{len(rollouts)}':>8} {steps} {seconds:6.2f}"


def failures(rollouts: Sequence[ExpertRollout]) -> str:
    """The initial states that were not solved."""
    return ",".join(str(rollout.init_state) for rollout in rollouts if not rollout.success) or "-"


def result(
    options: ExpertRolloutsOptions,
    suite: str,
    max_steps: int,
    assets: str,
    rollouts: Sequence[ExpertRollout],
    wall_seconds: float,
) -> dict[str, Any]:
    """The last line of the output; its hash tells whether two runs were the same to the last bit."""
    solved = sum(rollout.success is True for rollout in rollouts)
    return {
        "suite": suite,
        "noise": options.noise,
        "seed": options.seed,
        "max_steps": max_steps,
        "assets": assets,
        "episodes": len(rollouts),
        "solved": solved,
        "success_rate": round(solved / len(rollouts), 4),
        "simulator_errors": sum(rollout.success is None for rollout in rollouts),
        "workers": options.workers,
        "wall_seconds": round(wall_seconds, 1),
        "seconds_per_episode": round(statistics.mean(rollout.seconds for rollout in rollouts), 3),
        "actions_sha256": hashlib.sha256(b"".join(rollout.actions for rollout in rollouts)).hexdigest(),
        "failed": [
            [rollout.task, rollout.init_state, rollout.steps] for rollout in rollouts if not rollout.success
        ],
    }


def main() -> int:
    """Run as a program."""
    return run_command(ExpertRolloutsOptions, lambda options: run(options, dict(os.environ)), __doc__)
