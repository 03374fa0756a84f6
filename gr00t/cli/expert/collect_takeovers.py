"""Let a policy play in LIBERO and the scripted expert take over: demonstrations of its own mistakes (DAgger).

    python scripts/collect_takeovers.py FOLDER libero_object_prompts --model-path CHECKPOINT --placement wide

Of every episode that the policy plays some steps are chosen, most of them near a grasp and more of them if it
fails; the expert goes on from there, and what it solves becomes a demonstration in FOLDER, in the layout of
collect_demonstrations.py. The policy's own episodes stand in policy_episodes.jsonl. A run that was stopped or
killed goes on; another checkpoint needs another folder. Initial states from 20 on are for training;
evaluations begin at 0.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.cli.expert.collect_demonstrations import modality
from gr00t.cli.running import run_command
from gr00t.cli.serving.policy import load_by_flags
from gr00t.data.lerobot.writer import LeRobotWriter
from gr00t.eval.rollout.episode import PolicyClient
from gr00t.eval.takeovers.collector import TakeoverCollector, TakeoverJob, TakeoverPlan
from gr00t.files.atomic import replace_file
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
from gr00t.serving.identity import folder_hash

RUN = "takeovers.json"
# Episodes that a simulator takes at once: few enough that none waits long for the others at the end.
_AT_ONCE = 10


@dataclasses.dataclass(frozen=True)
class CollectTakeoversOptions:
    """Let a policy play and the scripted expert take over, as a data set in the LeRobot layout."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The data set; made, or extended."""
    suite: Annotated[str, tyro.conf.Positional]
    """libero_spatial, libero_object, libero_goal, libero_10, or libero_object_prompts."""
    model_path: str
    """Checkpoint folder or model hub id of the policy."""
    data_config: str | None = None
    """Keys and transforms: a registered name, or "module:Class" of your own (default: LIBERO's)."""
    tasks: str = "all"
    """Tasks of the suite: all, 3, 0,3 or 0-4."""
    init_states: str = "20-49"
    """Recorded initial states of each task: all, 3, 0,3 or 20-49."""
    placement: Literal["recorded", "wide"] = "recorded"
    """Where the objects stand: as recorded, or moved about by up to 8 cm."""
    repeats: int = 1
    """Episodes from each initial state; each has a noise, and a wide placement, of its own."""
    seed: int = 5000
    """Of the first repeat; the next ones count up."""
    takeovers: int = 1
    """Of an episode that the policy solves."""
    takeovers_of_failures: int = 3
    """Of one that it does not."""
    denoising_steps: int = 8
    """Euler steps per action chunk."""
    replan_steps: int = 8
    """Actions executed per query."""
    max_steps: int | None = None
    """Control steps after which the policy, and then the expert, has failed (default: the suite's)."""
    size: int = 128
    """Side of the recorded images, a divisor of 256."""
    workers: int = 1
    """Simulators that play at the same time; the policy answers one after the other."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the policy."""
    embodiment_tag: str | None = None
    """Whose statistics and projections are used (default: new_embodiment)."""
    base: str | None = None
    """Checkpoint that an adapter was trained on."""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU if there is one."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """The instruction in the prompt: ['TEXT'] or TEXT."""
    assets: str = "auto"
    """auto (LIBERO_ASSETS, else the hub, else the built-in stand-ins), stand-ins, hub, or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library to draw with (default: MUJOCO_GL, else osmesa)."""


class PolicyInTurn:
    """A policy of this process that several threads ask, one after the other.

    Args:
        policy: a `gr00t.model.policy.Gr00tPolicy`.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._lock = threading.Lock()

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        """See `PolicyClient`."""
        with self._lock:
            answer: dict[str, Any] = self._policy.get_action(observations, seeds=seed)
        return answer


def jobs(options: CollectTakeoversOptions, tasks: Sequence[Task]) -> Iterator[TakeoverJob]:
    """Everything that is to be played, repeat by repeat."""
    states = parse_indices(options.init_states, 50, "initial states")
    for repeat, task in itertools.product(range(options.repeats), tasks):
        for start in range(0, len(states), _AT_ONCE):
            yield TakeoverJob(task, options.seed + repeat, states[start : start + _AT_ONCE])


def check(options: CollectTakeoversOptions) -> None:
    """Refuse flags that make no sense.

    Raises:
        UsageError: they do not.
    """
    for name in ("workers", "repeats", "denoising_steps", "replan_steps", "takeovers_of_failures"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(options, name)}")
    if options.takeovers < 0:
        raise UsageError(f"--takeovers: expected 0 or more, got {options.takeovers}")
    if options.max_steps is not None and options.max_steps < 1:
        raise UsageError(f"--max-steps: expected at least 1, got {options.max_steps}")
    if options.size < 1 or 256 % options.size:
        raise UsageError(f"--size {options.size}: expected a divisor of 256")


def agree(folder: Path, run: dict[str, Any]) -> None:
    """Write down what a run is, or find out that the run in `folder` is the same one.

    Raises:
        UsageError: it is another one.
    """
    path = folder / RUN
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(run, indent=2) + "\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    differing = [
        f"{key} {before.get(key)!r} -> {run.get(key)!r}"
        for key in {**before, **run}
        if before.get(key) != run.get(key)
    ]
    if differing:
        raise UsageError(f"{path} is of another run: {', '.join(differing)}; name another folder")


def summary(played: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the policy's episodes ended, and the takeovers, by task."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COUNTED, 0))
    for line in played:
        if "simulator_error" in line:
            continue
        taken = line["takeovers"]
        found = (1, int(line["solved"]), len(taken), sum(each["solved"] for each in taken))
        for name, value in zip(_COUNTED, found, strict=True):
            counts[f"{line['suite']} {line['task_number']}"][name] += value
    totals = {name: sum(each[name] for each in counts.values()) for name in _COUNTED}
    return {**totals, "by_task": dict(sorted(counts.items()))}


_COUNTED = ("played", "policy_solved", "takeovers", "recorded")


def run(options: CollectTakeoversOptions, environ: dict[str, str]) -> None:
    """Play as `options` say and print the counts, as JSON in the last line.

    Raises:
        UsageError: flags that make no sense, or a folder of another run.
        LiberoError, DatasetError: a request that cannot be met, or a folder of something else.
        CheckpointError and others: see `Gr00tPolicy`.
    """
    check(options)
    suite = find_suite(options.suite)
    all_tasks = load_tasks(suite, libero_package())
    tasks = [all_tasks[index] for index in parse_task_indices(options.tasks, suite)]
    todo = list(jobs(options, tasks))
    plan = TakeoverPlan(
        placement=options.placement,
        max_steps=options.max_steps or suite.max_steps,
        replan_steps=options.replan_steps,
        of_solved=options.takeovers,
        of_failed=options.takeovers_of_failures,
        size=options.size,
    )
    with tempfile.TemporaryDirectory() as logs:
        setup = SimulatorSetup(suite, options.assets, options.gl, "fast", environ, Path(logs))
        policy = load_by_flags(options, options.model_path, environ, settled=True)
        agree(
            options.folder,
            {
                **dataclasses.asdict(plan),
                "policy": folder_hash(policy.model_path, known=policy.file_hashes),
                "data_config": options.data_config,
                "denoising_steps": options.denoising_steps,
                "dtype": options.dtype,
                "assets": setup.found_assets.fingerprint,
            },
        )
        with setup.pool(options.workers) as pool:
            writer = LeRobotWriter(options.folder, modality(), CONTROL_HZ)
            asked: PolicyClient = PolicyInTurn(policy)
            collector = TakeoverCollector(asked, plan, writer, lambda: pool.is_stopping)
            left = collector.left(todo)
            print(
                f"{suite.name}, {options.placement} placements, assets: {setup.found_assets}; "
                f"{len(collector.played)} episodes of the policy are there, {len(writer.episodes)} takeovers"
            )
            with tqdm(total=sum(len(job.init_states) for job in left), unit="episode") as bar:
                play = partial(_play, collector, bar)
                for _ in pool.map(play, left):
                    pass
    print(
        json.dumps(
            {
                "folder": str(options.folder),
                **summary(collector.played),
                "episodes": len(writer.episodes),
                "steps": sum(line["length"] for line in writer.episodes),
            }
        )
    )


def _play(collector: TakeoverCollector, bar: Any, simulator: SimulatorProcess, job: TakeoverJob) -> None:
    collector.play(simulator, job, bar.update)


def main() -> int:
    """Run as a program."""
    return run_command(
        CollectTakeoversOptions,
        lambda options: run(options, dict(os.environ)),
        __doc__,
        interrupted="interrupted; the same command goes on",
    )
