"""Draw strewn objects of LIBERO, with the place of each in each image, for learning to see.

    python -m examples.Libero.demo_policy.training.collect_scenes FOLDER libero_object --workers 2

One file per task, with images, labels and what they are labels of. A run that was stopped goes on: the files
that are there are not made again.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tqdm import tqdm

from gr00t.cli.running import run_command
from gr00t.files.atomic import atomic_write
from gr00t.libero.datagen.labelled_scenes import sample_scenes
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.libero.tasks.suites import LiberoError, Task, find_suite, libero_package, load_tasks, parse_indices

# The groceries of libero_object, and what they are put into.
KINDS = (
    *("alphabet soup", "bbq sauce", "butter", "chocolate pudding", "cream cheese", "ketchup", "milk"),
    *("orange juice", "salad dressing", "tomato sauce", "basket"),
)
SIZE = 128


@dataclasses.dataclass(frozen=True)
class CollectScenesOptions:
    """Draw strewn objects of LIBERO, with the place of each in each image."""

    folder: Annotated[Path, tyro.conf.Positional]
    """For the files; made, or gone on with."""
    suite: Annotated[str, tyro.conf.Positional] = "libero_object"
    """Whose tasks' objects are strewn."""
    count: int = 20000
    """Scenes in all, as many of each task."""
    init_states: str = "20-49"
    """Recorded initial states to start from."""
    seed: int = 0
    """Of everything, with the task's number."""
    workers: int = 1
    """Simulators that draw at the same time."""
    assets: str = "auto"
    """auto (the first of LIBERO_ASSETS, packages, hub, stand-ins), or one of them, or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library to draw with (default: MUJOCO_GL, else osmesa)."""


def run(options: CollectScenesOptions) -> None:
    """Draw what is missing.

    Raises:
        LiberoError: a request that cannot be met.
        SimulatorError: the simulator failed.
    """
    suite = find_suite(options.suite)
    tasks = load_tasks(suite, libero_package())
    if options.workers < 1 or options.count < len(tasks):
        raise LiberoError(f"--workers: at least 1; --count: at least {len(tasks)}, one of each task")
    options.folder.mkdir(parents=True, exist_ok=True)
    missing = [task for task in tasks if not scene_file(options, task).is_file()]
    with tempfile.TemporaryDirectory() as logs:
        setup = SimulatorSetup(suite, options.assets, options.gl, "fast", dict(os.environ), Path(logs))
        print(f"{suite.name}, assets: {setup.found_assets}", flush=True)
        work = partial(draw, options, options.count // len(tasks))
        with setup.pool(options.workers) as pool, tqdm(total=len(missing), unit="task") as bar:
            for _ in pool.map(work, missing):
                bar.update()


def scene_file(options: CollectScenesOptions, task: Task) -> Path:
    """Where the scenes of a task belong."""
    return options.folder / f"{task.suite}-{task.index}-seed{options.seed}.npz"


def draw(options: CollectScenesOptions, count: int, simulator: SimulatorProcess, task: Task) -> None:
    """Draw scenes of one task and write them, whole or not at all."""
    available = simulator.open_task(task, options.seed)
    states = parse_indices(options.init_states, available, "initial states")
    scenes = simulator.run(sample_scenes, KINDS, states, count, [options.seed, task.index], SIZE)
    with atomic_write(scene_file(options, task)) as aside, aside.open("wb") as file:
        np.savez(file, **dataclasses.asdict(scenes), kinds=np.array(KINDS))


def main() -> int:
    """Run as a program; return the exit status."""
    interrupted = "interrupted; the same command goes on"
    return run_command(CollectScenesOptions, run, __doc__, interrupted=interrupted)


if __name__ == "__main__":
    raise SystemExit(main())
