"""The whole full-size model at W4A8 against bf16: request by request, stage by stage, and its memory.

    python scripts/bench/policy.py --folder FOLDER
    python scripts/bench/policy.py --folder FOLDER --arms bf16 integer fake bf16-compiled integer-compiled
    python scripts/bench/policy.py --folder FOLDER --arms bf16 integer wide
    python scripts/bench/policy.py --folder FOLDER --rounds 1 --steps 4 --profile

Every arm has a process of its own, so that its peak memory is its own too; they answer in turns, and ratios
are of answers of one turn. Weights are random, nothing is downloaded: FOLDER gets a checkpoint and the
artefact that export_quantized.py makes of it (8.3 GB, and as much as an artefact more for `wide`), and is
used again by the next run. A request has two images and 566 tokens, as LIBERO's have. Quantized is W4A8 with
dynamic per-token scales; `wide` goes beyond the document: vision, connector, adapter and DiT attention are at
W8A8, too. *Action error* is how far an arm's actions are from the first one's: RMS of the difference, of
their RMS.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from policy_parts.arm import ARMS, Setting, Watched, answer, layers_of
from policy_parts.operators import operator_table

from gr00t.machine import describe_machine
from gr00t.processes.freed_memory import use_huge_pages
from gr00t.quantization.checkpoint.manifest import read_manifest
from gr00t.quantization.settings.environment import to_environ
from gr00t.spelling import did_you_mean

SCRIPTS = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The whole full-size model at W4A8 against bf16."""

    folder: Path
    """For checkpoint and artefact."""
    arms: tuple[str, ...] = ("bf16", "integer")
    """What to time, the baseline first: bf16, integer, fake, wide, bf16-compiled, integer-compiled,
    wide-compiled."""
    steps: tuple[int, ...] = (4, 8)
    """Denoising steps."""
    rounds: int = 5
    """Timed turns; the median counts. One more at first is not timed."""
    threads: int = os.cpu_count() or 1
    """CPU threads of each arm; only one arm works at a time. With 1, stages are timed in CPU time."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    profile: bool = False
    """Print the ten most expensive operators of every arm, too, by the CPU time of the thread that asks."""
    small: bool = False
    """A small model instead: to try the program out."""


def main(arguments: Arguments) -> None:
    """Print the tables, and the same as JSON in the last line."""
    for name in arguments.arms:
        if name not in ARMS:
            raise SystemExit(f"error: --arms {name}: {did_you_mean(name, ARMS)}")
    # Threads that spin while they wait would take the cores from the arm whose turn it is.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    print(describe_machine(arguments.device))
    setting = prepare(arguments)
    with started(arguments.arms, setting) as arms:
        rows = [measure(arms, steps, arguments.rounds) for steps in arguments.steps]
        first = arguments.steps[0]
        stages = {name: ask(arms[name], first, Watched.STAGES)["times"] for name in plain(arms)}
        last = {name: ask(arm, first) for name, arm in arms.items()}
        operators = {
            name: ask(arm, first, Watched.OPERATORS)["operators"]
            for name, arm in arms.items()
            if arguments.profile
        }
    peaks = {name: answered["peak"] for name, answered in last.items()}
    errors = action_errors({name: answered["action"] for name, answered in last.items()})
    print(table(rows, peaks, errors))
    if stages:
        clock = "ms of CPU time" if setting.times_cpu else "ms"
        print(stage_table(stages, f"{first} steps, {clock}"))
    for name, costly in operators.items():
        print(operator_table(name, costly, first))
    limits = {}
    for scope, layers in setting.layers.items() if "bf16" in stages else ():
        share = stages["bf16"][layers_of(scope)] / stages["bf16"]["total"]
        limits[scope] = 1 / (1 - share)
        print(
            f"Of bf16's time the {len(layers)} layers of the scope {scope} take {100 * share:.1f} %: were "
            f"they free, the whole would be {limits[scope]:.2f} x as fast (Amdahl's limit of this scope)."
        )
    found = {"rows": rows, "stages": stages, "peak_bytes": peaks, "limits": limits, "action_errors": errors}
    if operators:
        found["operators"] = {name: [op._asdict() for op in costly] for name, costly in operators.items()}
    print(json.dumps(found))


def prepare(arguments: Arguments) -> Setting:
    """Write checkpoint and artefact where they are not there yet."""
    checkpoint = arguments.folder / "checkpoint"
    if not checkpoint.is_dir():
        size = [] if arguments.small else ["--full-size"]
        run("make_demo_checkpoint.py", "--folder", str(checkpoint), *size)
    artefacts, layers = {}, {}
    for scope in dict.fromkeys(("document", *(ARMS[name].scope for name in arguments.arms))):
        artefact = arguments.folder / ("artefact" if scope == "document" else f"artefact-{scope}")
        if not artefact.is_dir():
            run("export_quantized.py", str(checkpoint), str(artefact), "--scope", scope)
        manifest = read_manifest(artefact)
        assert manifest is not None
        artefacts[scope], layers[scope] = artefact, list(manifest.layers)
    return Setting(checkpoint, artefacts, layers, arguments.device, arguments.threads)


def run(script: str, *arguments: str) -> None:
    """Run one of the scripts, quietly unless it fails."""
    print("+", script, *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        env=to_environ({"CALIB_STEPS": "0"}, os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: {script}: {done.stderr[-2000:]}")


@contextmanager
def started(names: tuple[str, ...], setting: Setting) -> Iterator[dict[str, Connection]]:
    """A process for every arm, all of them ready."""
    use_huge_pages(os.environ)  # as a server does
    context = multiprocessing.get_context("spawn")
    environ = to_environ({}, os.environ)
    arms: dict[str, Connection] = {}
    processes = []
    try:
        for name in names:
            ours, theirs = context.Pipe()
            process = context.Process(target=answer, args=(theirs, ARMS[name], setting, environ), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            # One after the other: loading is heavy.
            try:
                ours.recv()
            except EOFError:
                raise SystemExit(f"error: arm {name} could not be loaded; it has said why") from None
            arms[name] = ours
        yield arms
    finally:
        for arm in arms.values():
            arm.close()
        for process in processes:
            process.join(timeout=10)
            process.kill()


def ask(arm: Connection, steps: int, watched: Watched = Watched.NOTHING) -> dict[str, Any]:
    """One request of one arm."""
    arm.send((steps, watched))
    answered: dict[str, Any] = arm.recv()
    return answered


def plain(arms: dict[str, Connection]) -> list[str]:
    """The arms whose stages can be timed: those that are not compiled into one."""
    return [name for name in arms if not ARMS[name].compiled]


def measure(arms: dict[str, Connection], steps: int, rounds: int) -> dict[str, Any]:
    """Medians over turns, in wall time and in CPU time of all threads, which other programs change less."""
    turns = [{name: ask(arm, steps) for name, arm in arms.items()} for _ in range(rounds + 1)][1:]
    wall = [{name: answered["times"]["total"] for name, answered in turn.items()} for turn in turns]
    cpu = [{name: answered["cpu"] for name, answered in turn.items()} for turn in turns]
    return {
        "steps": steps,
        "ms": {name: round(statistics.median(turn[name] for turn in wall), 1) for name in arms},
        "speedup": speedups(wall),
        "cpu_ms": {name: round(statistics.median(turn[name] for turn in cpu), 1) for name in arms},
        "cpu_speedup": speedups(cpu),
    }


def speedups(turns: list[dict[str, float]]) -> dict[str, float]:
    """Of the ratios within turns the medians: how much faster than the first arm each one is."""
    base = next(iter(turns[0]))
    return {name: round(statistics.median(turn[base] / turn[name] for turn in turns), 3) for name in turns[0]}


def action_errors(actions: dict[str, np.ndarray]) -> dict[str, float]:
    """How far the actions of each arm are from the first one's: RMS of the difference, of their RMS."""
    base = next(iter(actions.values()))
    return {
        name: float(np.sqrt(np.mean((found - base) ** 2) / np.mean(base**2)))
        for name, found in actions.items()
    }


def table(rows: list[dict[str, Any]], peaks: dict[str, int], errors: dict[str, float]) -> str:
    """Times, memory and errors, as Markdown."""
    names = list(peaks)
    lines = [
        f"| denoising steps | {' | '.join(f'{name}, ms' for name in names)} |",
        "| --- " * (len(names) + 1) + "|",
    ]
    for row in rows:
        for what, ms, speedup in (("", "ms", "speedup"), (", CPU time", "cpu_ms", "cpu_speedup")):
            cells = [f"{row[ms][name]:.0f} ({row[speedup][name]:.2f} x)" for name in names]
            lines.append(f"| {row['steps']}{what} | {' | '.join(cells)} |")
    lines.append(f"| peak memory | {' | '.join(f'{peaks[name] / 1e9:.2f} GB' for name in names)} |")
    lines.append(f"| action error | {' | '.join(f'{100 * errors[name]:.2f} %' for name in names)} |")
    return "\n".join(lines)


def stage_table(stages: dict[str, dict[str, float]], title: str) -> str:
    """What each stage takes, as Markdown; the quantized layers are parts of two of the stages."""
    names = list(stages)
    lines = [f"| {title} | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for stage in stages[names[0]]:
        lines.append(f"| {stage} | {' | '.join(f'{stages[name][stage]:.0f}' for name in names)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main(tyro.cli(Arguments, description=__doc__))
