"""Make the demonstration policy from nothing: scenes, demonstrations, training, and its success on the way.

    python -m examples.Libero.demo_policy.training.train_demo_policy FOLDER

Every part is a command of its own, which is printed: collect_demonstrations.py records the scripted expert
on the built-in stand-ins, collect_scenes.py draws them strewn about, train_grounding.py teaches what they
are and what they are called, train.py trains on the demonstrations, first the action head alone and then
everything, evaluate.py drives the simulator with what has been learned so far, and success.jsonl says how
well. Interrupted, the same command goes on. It ends with FOLDER/training/checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from examples.Libero.demo_policy.training.architecture import write_untrained
from gr00t.cli.running import run_command
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks

SCRIPTS = Path(__file__).parents[4] / "scripts"
# Of the programs that are not among the scripts; Python finds it where a checkout is the current folder.
PACKAGE = "examples.Libero.demo_policy.training"
DATA_CONFIG = "examples.Libero.demo_data_config:DemoDataConfig"
SUITES = ("libero_object", "libero_object_prompts")
# Initial states from 20 on; the first 20 of each task are kept for evaluations.
DEMONSTRATIONS = (
    ("libero_object_prompts", "--placement", "wide", "--init-states", "20-49", "--repeats", "6"),
    ("libero_object_prompts", "--placement", "recorded", "--init-states", "20-34"),
    ("libero_object", "--placement", "recorded", "--init-states", "20-49"),
    ("libero_object", "--placement", "wide", "--init-states", "20-34", "--seed", "1010"),
)
PLAN = (
    *("--precision", "float32", "--ema-decay", "0.999", "--draws", "2", "--betas", "0.9", "0.99"),
    *("--waypoint-weight", "2", "--grounding-weight", "0.5", "--scene-batch", "8"),
)
# A head that cannot use yet what the encoder sees would undo it: it learns alone first.
HEAD = ("--parts", "projector", "diffusion", "--batch-size", "64", "--learning-rate", "2e-3")
EVERYTHING = (
    *("--parts", "vision", "language", "projector", "diffusion"),
    *("--batch-size", "32", "--learning-rate", "5e-4"),
)


@dataclasses.dataclass(frozen=True)
class DemoPolicyOptions:
    """Make the demonstration policy from nothing."""

    folder: Annotated[Path, tyro.conf.Positional]
    """For everything that is made."""
    head_steps: int = 1200
    """Optimizer steps of the action head alone."""
    steps: int = 7500
    """Optimizer steps of everything."""
    rounds: int = 3
    """How often to look at the success in closed loop: after as many equal parts of the training."""
    trials: int = 2
    """Episodes per task of each look. They start from states that were trained on."""
    seed: int = 0
    """Of the initial weights and of the training."""
    workers: int = 2
    """Simulators that play at the same time."""
    processes: int = 2
    """That train together: one for each core, or each GPU."""


def run(options: DemoPolicyOptions) -> None:
    """Collect, train and look.

    Raises:
        LiberoError: LIBERO is not there.
        subprocess.CalledProcessError: a command failed; it has said why.
    """
    demonstrations, scenes = options.folder / "demonstrations", options.folder / "scenes"
    simulators = ("--assets", "stand-ins", "--workers", str(options.workers))
    untrained, grounded, head, training = (
        options.folder / name for name in ("untrained", "grounded", "head", "training")
    )
    # Once a training has begun its data stay as they are.
    if not head.is_dir():
        for what in DEMONSTRATIONS:
            call("collect_demonstrations.py", demonstrations, *what, *simulators)
    if not untrained.is_dir():
        write_untrained(untrained, sentences(), options.seed)
    if not grounded.is_dir():
        call("collect_scenes", scenes, "--seed", str(options.seed), *simulators)
        call(
            *("train_grounding", "--checkpoint", untrained, "--scenes", scenes, "--output", grounded),
            *("--seed", str(options.seed)),
        )

    def train(start: Path, output: Path, steps: int, until: int, plan: Sequence[str]) -> None:
        call(
            *("train", "--data", demonstrations, "--checkpoint", start, "--output", output),
            *("--data-config", DATA_CONFIG, "--scenes", scenes, "--cache", options.folder / "frames"),
            *("--steps", str(steps), "--stop-after", str(until), *PLAN, *plan, "--seed", str(options.seed)),
            processes=options.processes,
        )

    if not training.is_dir():
        train(grounded, head, options.head_steps, options.head_steps, HEAD)
    log = options.folder / "success.jsonl"
    looked = len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0
    for number in range(looked + 1, options.rounds + 1):
        step = options.steps * number // options.rounds
        train(head / "checkpoint", training, options.steps, step, EVERYTHING)
        line = json.dumps({"step": step, **look(options, step)})
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def look(options: DemoPolicyOptions, step: int) -> dict[str, dict[str, int]]:
    """Drive the simulator with what has been learned; return episodes and successes by suite."""
    scores = {}
    for suite, placement in (("libero_object_prompts", "wide"), ("libero_object", "recorded")):
        output = options.folder / f"success-{step}-{suite}"
        call(
            *("evaluate.py", "--suite", suite, "--placement", placement, "--arms", "bf16"),
            *("--assets", "stand-ins", "--workers", str(options.workers), "--init-offset", "20"),
            *("--model", options.folder / "training" / "checkpoint", "--data-config", DATA_CONFIG),
            *("--trials", str(options.trials), "--output", output),
        )
        score = json.loads((output / "report.json").read_text(encoding="utf-8"))["rows"][0]["score"]
        scores[f"{suite}, {placement}"] = {key: score[key] for key in ("episodes", "successes")}
    return scores


def sentences() -> list[str]:
    """The instructions of all tasks, each once, in order."""
    package = libero_package()
    tasks = [task for suite in SUITES for task in load_tasks(find_suite(suite), package)]
    return list(dict.fromkeys(task.language for task in tasks))


def call(program: str, *arguments: str | Path, processes: int = 1) -> None:
    """Run one of the scripts, NAME.py, or a module of this package, showing the command."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    launcher = torchrun if processes > 1 else ()
    what = (str(SCRIPTS / program),) if program.endswith(".py") else ("-m", f"{PACKAGE}.{program}")
    command: Sequence[str] = [sys.executable, *launcher, *what, *map(str, arguments)]
    print("+", *command[1:], flush=True)
    subprocess.run(command, check=True)


def make(options: DemoPolicyOptions) -> int:
    """Do all of it; return the status of the command that failed, or 0."""
    try:
        run(options)
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def main() -> int:
    """Run as a program; return the exit status."""
    return run_command(DemoPolicyOptions, make, __doc__, interrupted="interrupted; the same command goes on")


if __name__ == "__main__":
    raise SystemExit(main())
