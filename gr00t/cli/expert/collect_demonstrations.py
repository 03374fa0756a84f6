"""Record the scripted expert in LIBERO as a data set that Isaac-GR00T N1.5 and scripts/train.py train on.

    python scripts/collect_demonstrations.py FOLDER libero_object --init-states 20-49
    python scripts/collect_demonstrations.py FOLDER libero_object_prompts --placement wide --repeats 4

The expert's actions are disturbed on the way to the arm and recorded as it meant them. A folder may be
extended, and a run that was stopped goes on: what is there already is not recorded again. Initial states from
20 on are for training; evaluations begin at 0.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.files.shipped import LIBERO_MODALITY
from gr00t.libero.datagen.demonstrations import demonstrate
from gr00t.libero.simulator.pool import SimulatorPool
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.libero.simulator.simulator import CONTROL_HZ
from gr00t.libero.tasks.suites import (
    Task,
    find_suite,
    libero_package,
    load_tasks,
    parse_indices,
    parse_task_indices,
)

# A motion command is a change: where an episode has ended there is none.
CHANGES = ("x", "y", "z", "roll", "pitch", "yaw")


@dataclasses.dataclass(frozen=True)
class CollectDemonstrationsOptions:
    """Record the scripted expert in LIBERO as a data set in the LeRobot layout."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The data set; made, or extended."""
    suite: Annotated[str, tyro.conf.Positional]
    """libero_spatial, libero_object, libero_goal, libero_10, or libero_object_prompts."""
    tasks: str = "all"
    """Tasks of the suite: all, 3, 0,3 or 0-4."""
    init_states: str = "20-49"
    """Recorded initial states of each task: all, 3, 0,3 or 20-49."""
    placement: Literal["recorded", "wide"] = "recorded"
    """Where the objects stand: as recorded, or moved about by up to 8 cm."""
    repeats: int = 1
    """Episodes from each initial state; each has a disturbance, and a wide placement, of its own."""
    levels: tuple[float, ...] = (0.0, 0.4, 0.7, 1.0)
    """Disturbances, taken in turn."""
    seed: int = 1000
    """Of the first repeat; the next ones count up."""
    size: int = 128
    """Side of the recorded images, a divisor of 256."""
    workers: int = 1
    """Simulators that play at the same time."""
    assets: str = "auto"
    """auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), or one of them, or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library to draw with (default: MUJOCO_GL, else osmesa)."""


@dataclasses.dataclass(frozen=True)
class TaskEpisodes:
    """Episodes of one task under one seed."""

    task: Task
    seed: int
    init_states: Sequence[int]


def jobs(
    options: CollectDemonstrationsOptions, tasks: Sequence[Task], done: set[tuple[Any, ...]]
) -> Iterator[TaskEpisodes]:
    """What is still to be recorded."""
    for repeat, task in itertools.product(range(options.repeats), tasks):
        recorded = parse_indices(options.init_states, 50, "initial states")
        seed = options.seed + repeat
        left = [
            state
            for state in recorded
            if (task.suite, task.index, state, options.placement, seed) not in done
        ]
        if left:
            yield TaskEpisodes(task, seed, left)


class Recorder:
    """Plays jobs on several simulators at once and writes what they show.

    Args:
        options: the command line.
        max_steps: control steps after which the expert has failed.
        pool: of the simulators.
        writer: of the data set.
    """

    def __init__(
        self,
        options: CollectDemonstrationsOptions,
        max_steps: int,
        pool: SimulatorPool,
        writer: LeRobotWriter,
    ) -> None:
        self._options = options
        self._max_steps = max_steps
        self._pool = pool
        self._writer = writer
        self._writing = threading.Lock()

    def record(self, todo: Sequence[TaskEpisodes]) -> tuple[int, int]:
        """Play all jobs; return how many episodes were recorded and how many not solved."""
        with tqdm(total=sum(len(job.init_states) for job in todo), unit="episode") as bar:
            counts = list(self._pool.map(partial(self._play, bar), todo))
        return sum(solved for solved, _ in counts), sum(failed for _, failed in counts)

    def _play(self, bar: Any, simulator: SimulatorProcess, job: TaskEpisodes) -> tuple[int, int]:
        options = self._options
        recorded = failed = 0
        simulator.open_task(job.task, job.seed, options.placement)
        for state in job.init_states:
            if self._pool.is_stopping:
                break
            level = options.levels[(state + job.seed) % len(options.levels)]
            shown = simulator.run(demonstrate, state, self._max_steps, level, job.seed, options.size)
            bar.update()
            if shown is None:
                failed += 1
                continue
            extra = {
                "suite": job.task.suite,
                "task_number": job.task.index,
                "init_state": state,
                "placement": options.placement,
                "seed": job.seed,
                "disturbance": level,
            }
            frames = {"image": shown.image, "wrist_image": shown.wrist_image}
            with self._writing:
                self._writer.add(Demonstration(job.task.language, shown.states, shown.actions, frames, extra))
            recorded += 1
        return recorded, failed


def modality() -> dict[str, Any]:
    """LIBERO's modality.json, motion commands marked as changes."""
    content: dict[str, Any] = json.loads(LIBERO_MODALITY.read_text(encoding="utf-8"))
    for name in CHANGES:
        content["action"][name]["absolute"] = False
    return content


def run(options: CollectDemonstrationsOptions, environ: dict[str, str]) -> None:
    """Record as `options` say and print the counts, as JSON in the last line.

    Raises:
        UsageError: flags that make no sense.
        LiberoError, DatasetError: a request that cannot be met, or a folder of something else.
        SimulatorError: the simulator failed.
    """
    if min(options.workers, options.repeats, len(options.levels)) < 1 or min(options.levels) < 0:
        raise UsageError("--workers, --repeats: at least 1 each; --levels: at least one, none below 0")
    if options.size < 1 or 256 % options.size:
        raise UsageError(f"--size {options.size}: expected a divisor of 256")
    suite = find_suite(options.suite)
    all_tasks = load_tasks(suite, libero_package(), environ)
    tasks = [all_tasks[index] for index in parse_task_indices(options.tasks, suite)]
    with tempfile.TemporaryDirectory() as logs:
        setup = SimulatorSetup(suite, options.assets, options.gl, "fast", environ, Path(logs))
        with setup.pool(options.workers) as pool:
            writer = LeRobotWriter(options.folder, modality(), CONTROL_HZ)
            keys = ("suite", "task_number", "init_state", "placement", "seed")
            todo = list(jobs(options, tasks, {tuple(line[key] for key in keys) for line in writer.episodes}))
            print(
                f"{suite.name}, {options.placement} placements, assets: {setup.found_assets}; "
                f"{len(writer.episodes)} episodes are there"
            )
            solved, failed = Recorder(options, suite.max_steps, pool, writer).record(todo)
    print(
        json.dumps(
            {
                "folder": str(options.folder),
                "recorded": solved,
                "not_solved": failed,
                "episodes": len(writer.episodes),
                "steps": sum(line["length"] for line in writer.episodes),
            }
        )
    )


def main() -> int:
    """Run as a program."""
    return run_command(
        CollectDemonstrationsOptions,
        lambda options: run(options, dict(os.environ)),
        __doc__,
        interrupted="interrupted; the same command goes on",
    )
