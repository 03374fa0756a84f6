"""LIBERO's suites and tasks, read from the installed wheel without importing it.

Importing `libero` asks questions on stdin, and its benchmark module imports torch. All that is needed here
are its task list, BDDL files and initial states, which are plain files.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
import re
import runpy
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gr00t.libero.tasks.libero_pro import instruction, pro_folder
from gr00t.libero.tasks.perturbations import PERTURBATIONS, PERTURBED, perturbed, split_suite
from gr00t.spelling import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# The packages that are the benchmark: with other versions of them it is another one.
BENCHMARK = ("mujoco", "robosuite", "hf-libero", "bddl")


class LiberoError(ValueError):
    """A request that cannot be met as asked; the message says what to change."""


@dataclass(frozen=True)
class Suite:
    """A LIBERO suite and the step limit with which published evaluations of it run."""

    name: str
    num_tasks: int
    max_steps: int

    @property
    def base(self) -> str:
        """The suite that it perturbs; of any other, its own name."""
        return split_suite(self.name)[0]

    @property
    def perturbation(self) -> str:
        """One of `PERTURBATIONS`; empty where nothing is perturbed."""
        return split_suite(self.name)[1]


@dataclass(frozen=True)
class Task:
    """One task: its instruction, its BDDL problem and its recorded initial states.

    `prompted` names the object that is meant instead of the one in the problem; see
    `gr00t.libero.tasks.prompts`.
    """

    suite: str
    index: int
    name: str
    language: str
    bddl: Path
    init_states: Path
    prompted: str = ""


SUITES = {
    suite.name: suite
    for suite in (
        Suite("libero_spatial", 10, 220),
        Suite("libero_object", 10, 280),
        Suite("libero_goal", 10, 600),
        Suite("libero_10", 10, 1000),
        Suite("libero_90", 90, 400),
        # One scene of libero_object and five prompts, so that only the words tell what to do. In
        # libero_object itself, which object is meant can be seen from which others are there.
        Suite("libero_object_prompts", 5, 280),
    )
}
SUITES |= {
    name: dataclasses.replace(SUITES[base], name=name)
    for base in PERTURBED
    for name in (perturbed(base, perturbation) for perturbation in PERTURBATIONS)
}
# Tomato sauce is left out: it looks like alphabet soup from where the camera is.
_PROMPTED = ("alphabet_soup", "butter", "cream_cheese", "milk", "salad_dressing")


def find_suite(name: str) -> Suite:
    """Look a suite up by `libero_object`, `libero-object` or `object`, `object_swap`; `long` is libero_10.

    Raises:
        LiberoError: for any other name.
    """
    key = name.strip().lower().replace("-", "_").removeprefix("libero_")
    key = re.sub(r"^long(?=_|$)", "10", key)
    suite = SUITES.get(f"libero_{key}")
    if suite is None:
        raise LiberoError(f"unknown LIBERO suite {name!r}: {did_you_mean(f'libero_{key}', SUITES)}")
    return suite


def parse_task_indices(text: str, suite: Suite) -> tuple[int, ...]:
    """Read `all`, `3`, `0,3` or `0-4,7` as task indices of `suite`, in the order given, each once.

    Raises:
        LiberoError: for anything else, or an index that the suite does not have.
    """
    return parse_indices(text, suite.num_tasks, "tasks", f" of {suite.name}")


def parse_indices(text: str, count: int, what: str, owner: str = "") -> tuple[int, ...]:
    """Read `all`, `3`, `0,3` or `0-4,7` as numbers below `count`, in the order given, each once.

    Args:
        text: As a user wrote it.
        count: How many there are.
        what: Their name in messages, in the plural.
        owner: What has that many, for messages.

    Raises:
        LiberoError: for anything else, or a number that does not exist.
    """
    if text.strip().lower() == "all":
        return tuple(range(count))
    indices: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise LiberoError(
                f"{what} {text!r}: expected 'all', or indices such as '0,3' or '0-4', got {part!r}"
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first or last >= count:
            raise LiberoError(f"{what} {text!r}: {part.strip()} is not within 0-{count - 1}{owner}")
        indices.extend(range(first, last + 1))
    return tuple(dict.fromkeys(indices))


def libero_package() -> Path:
    """The folder of the installed `libero.libero` package.

    Raises:
        LiberoError: if hf-libero is not installed.
    """
    spec = importlib.util.find_spec("libero")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        package = Path(location) / "libero"
        if (package / "benchmark" / "libero_suite_task_map.py").is_file():
            return package
    raise LiberoError("LIBERO is not installed in this Python; run: scripts/setup_env.sh libero")


def load_tasks(suite: Suite, package: Path, environ: Mapping[str, str] | None = None) -> list[Task]:
    """All tasks of `suite` in the order that published task numbers refer to.

    Args:
        suite: One of `SUITES`.
        package: Folder of the installed `libero.libero`.
        environ: The environment variables, without which the files of a perturbed suite are not found.

    Raises:
        LiberoError: a perturbed suite without `environ`.
        WheelError, CacheError: the files of a perturbed suite cannot be had.
    """
    if suite.name == "libero_object_prompts":
        return _prompts(suite, load_tasks(SUITES["libero_object"], package)[0])
    if suite.perturbation:
        if environ is None:
            raise LiberoError(f"{suite.name}: its files are in the user's cache, which `environ` names")
        return _perturbed(load_tasks(SUITES[suite.base], package), suite, pro_folder(suite.name, environ))
    task_map = runpy.run_path(str(package / "benchmark" / "libero_suite_task_map.py"))["libero_task_map"]
    return [
        Task(
            suite=suite.name,
            index=index,
            name=name,
            language=language_of(name),
            bddl=package / "bddl_files" / suite.name / f"{name}.bddl",
            init_states=package / "init_files" / suite.name / f"{name}.pruned_init",
        )
        for index, name in enumerate(task_map[suite.name])
    ]


def _perturbed(base: list[Task], suite: Suite, folder: Path) -> list[Task]:
    """The tasks of `base`, each with the problem and the initial states of the same name in `folder`."""
    return [
        dataclasses.replace(
            task,
            suite=suite.name,
            language=instruction(folder / f"{task.name}.bddl", task.bddl, task.language),
            bddl=folder / f"{task.name}.bddl",
            init_states=folder / f"{task.name}.npz",
        )
        for task in base
    ]


def _prompts(suite: Suite, scene: Task) -> list[Task]:
    """One task for each of the prompted objects, in the scene of another task."""
    tasks = []
    for index, prompted in enumerate(_PROMPTED):
        language = f"pick up the {prompted.replace('_', ' ')} and place it in the basket"
        task = dataclasses.replace(
            scene,
            suite=suite.name,
            index=index,
            name=language.replace(" ", "_"),
            language=language,
            prompted=prompted,
        )
        tasks.append(task)
    return tasks


def language_of(task_name: str) -> str:
    """The instruction that LIBERO derives from a task's name: no scene prefix, spaces for underscores."""
    return re.sub(r"^[A-Z][A-Z_]*SCENE\d+_", "", task_name).replace("_", " ")


def load_init_states(task: Task) -> NDArray[np.float64]:
    """The recorded initial states of a task, (N, 1 + nq + nv) float64: time, positions, velocities.

    LIBERO's file is a torch archive around a pickled numpy array; reading it directly keeps torch out of the
    simulator. It is part of the installed wheel and as trusted as its code. LIBERO-PRO's are numbers only.

    Raises:
        LiberoError: the files are not on this machine: in a cluster each has to unpack its own.
    """
    import numpy as np  # scripts look suites up before anything is installed

    if not task.init_states.is_file():
        raise LiberoError(
            f"{task.init_states} is not on this machine; where another one lists the tasks, let both share "
            f"the cache, or list them here, too: gr00t-evaluate --suite {task.suite} --arms zero --trials 1"
        )
    if task.init_states.suffix == ".npz":
        with np.load(task.init_states, allow_pickle=False) as archive:
            return cast("NDArray[np.float64]", np.asarray(archive["states"], dtype=np.float64))
    with zipfile.ZipFile(task.init_states) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        states = pickle.loads(archive.read(member))
    return cast("NDArray[np.float64]", np.asarray(states, dtype=np.float64))
