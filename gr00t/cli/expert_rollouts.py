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
import json
import os
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gr00t.console import log_to_stderr
from gr00t.libero.assets.location import Assets, resolve_assets
from gr00t.libero.simulator.process import SimulatorProcess, choose_backend, simulator_environ
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import (
    LiberoError,
    Task,
    find_suite,
    libero_package,
    load_init_states,
    load_tasks,
    parse_indices,
    parse_task_indices,
)


@dataclasses.dataclass(frozen=True)
class Options:
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
    """auto (LIBERO_ASSETS, else the hub, else the built-in stand-ins), stand-ins, hub, or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library that the simulator loads, though nothing is drawn (default: MUJOCO_GL, else osmesa)."""


@dataclasses.dataclass(frozen=True)
class Rollout:
    """One episode of the expert; `success` is None if the simulator failed, `actions` what was executed."""

    task: int
    init_state: int
    success: bool | None
    steps: int
    seconds: float
    actions: bytes


class Rollouts:
    """Plays tasks on several simulators at once; a task stays with one, since opening it takes a second.

    Args:
        options: The command line.
        max_steps: Control steps after which an episode has failed.
        simulators: One for each of the workers.
    """

    def __init__(self, options: Options, max_steps: int, simulators: Sequence[SimulatorProcess]) -> None:
        self._options = options
        self._max_steps = max_steps
        self._simulators = simulators
        self._idle: queue.SimpleQueue[SimulatorProcess] = queue.SimpleQueue()
        for simulator in simulators:
            self._idle.put(simulator)
        self._stop = threading.Event()

    def play(self, tasks: Sequence[Task], init_states: Sequence[int]) -> Iterator[list[Rollout]]:
        """Yield the rollouts of each task, in the order of the tasks."""
        # Fewer tasks than simulators: the initial states of each are dealt out.
        shares = -(-len(self._simulators) // len(tasks))
        with ThreadPoolExecutor(len(self._simulators)) as pool:
            futures = [
                [pool.submit(self._play_task, task, init_states[share::shares]) for share in range(shares)]
                for task in tasks
            ]
            try:
                for parts in futures:
                    rollouts = [rollout for part in parts for rollout in part.result()]
                    yield sorted(rollouts, key=lambda rollout: rollout.init_state)
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)

    def _play_task(self, task: Task, init_states: Sequence[int]) -> list[Rollout]:
        simulator = self._idle.get()
        rollouts = []
        is_open = False
        try:
            for init_state in init_states:
                if self._stop.is_set():
                    break
                started = time.perf_counter()
                try:
                    if not is_open:
                        simulator.open_task(task, self._options.seed)
                        is_open = True
                        started = time.perf_counter()
                    episode = simulator.play_expert(
                        init_state, self._max_steps, self._options.noise, self._options.seed
                    )
                    success, steps, actions = episode.success, episode.steps, episode.actions.tobytes()
                except SimulatorError as error:
                    print(f"task {task.index}, initial state {init_state}: {error}", file=sys.stderr)
                    success, steps, actions, is_open = None, 0, b"", False
                seconds = time.perf_counter() - started
                rollouts.append(Rollout(task.index, init_state, success, steps, seconds, actions))
        finally:
            self._idle.put(simulator)
        return rollouts


def run(options: Options, environ: dict[str, str]) -> int:
    """Play as `options` say, print a table and, as the last line, the result; return the exit status.

    Raises:
        LiberoError: A request that cannot be met.
    """
    suite = find_suite(options.suite)
    package = libero_package()
    all_tasks = load_tasks(suite, package)
    tasks = [all_tasks[index] for index in parse_task_indices(options.tasks, suite)]
    recorded = min(len(load_init_states(task)) for task in tasks)
    init_states = parse_indices(options.init_states, recorded, "initial states")
    if options.workers < 1 or options.noise < 0:
        raise LiberoError("--workers must be at least 1, --noise at least 0")
    max_steps = suite.max_steps if options.max_steps is None else options.max_steps
    backend = choose_backend(options.gl, environ)
    assets = resolve_assets(suite, package=package, environ=environ, choice=options.assets)

    print(f"{suite.name}, at most {max_steps} steps, noise {options.noise:g}, assets: {assets}")
    print(f"{'task':>4} {'success':>8} {'steps':>6} {'max':>4} {'s/ep.':>6}  failed from; instruction")
    rollouts: list[Rollout] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        simulators = [
            SimulatorProcess(
                assets.path,
                simulator_environ(environ, backend=backend, package=package),
                Path(folder) / f"simulator-{number}.log",
            )
            for number in range(options.workers)
        ]
        try:
            played = Rollouts(options, max_steps, simulators).play(tasks, init_states)
            for task, episodes in zip(tasks, played, strict=True):
                rollouts += episodes
                print(f"{row(task.index, episodes)}  {failures(episodes)}; {task.language}", flush=True)
        finally:
            for simulator in simulators:
                simulator.close()
    print(row("all", rollouts))
    print(json.dumps(result(options, suite.name, max_steps, assets, rollouts, time.perf_counter() - started)))
    return 0 if all(rollout.success is not None for rollout in rollouts) else 1


def row(name: int | str, rollouts: Sequence[Rollout]) -> str:
    """Columns of the table; steps are those of successes."""
    solved = [rollout.steps for rollout in rollouts if rollout.success]
    steps = f"{statistics.mean(solved):6.0f} {max(solved):4d}" if solved else f"{'-':>6} {'-':>4}"
    seconds = statistics.mean(rollout.seconds for rollout in rollouts)
    return f"{name:>4} {f'{len(solved)}/{len(rollouts)}':>8} {steps} {seconds:6.2f}"


def failures(rollouts: Sequence[Rollout]) -> str:
    """The initial states that were not solved."""
    return ",".join(str(rollout.init_state) for rollout in rollouts if not rollout.success) or "-"


def result(
    options: Options,
    suite: str,
    max_steps: int,
    assets: Assets,
    rollouts: Sequence[Rollout],
    wall_seconds: float,
) -> dict[str, Any]:
    """The last line of the output; its hash tells whether two runs were the same to the last bit."""
    solved = sum(rollout.success is True for rollout in rollouts)
    return {
        "suite": suite,
        "noise": options.noise,
        "seed": options.seed,
        "max_steps": max_steps,
        "assets": assets.kind,
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
    """Parse the command line, run, and turn foreseeable errors into one line each."""
    log_to_stderr()
    options = tyro.cli(Options, description=__doc__)
    try:
        return run(options, dict(os.environ))
    except (LiberoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
