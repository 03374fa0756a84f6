"""Evaluate a served policy on a LIBERO suite.

Needs a running server (./run_inference_server.sh SUITE). Episodes, videos and a summary land in a new folder
under runs/; the last line of the output is the summary as JSON. Example: --suite libero_object --tasks 0,3
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import tyro

import gr00t
from gr00t.console import log_to_stderr
from gr00t.eval.client import ExternalRobotInferenceClient, NoReplyError, NoServerError, ServerError
from gr00t.eval.libero.assets import resolve_assets
from gr00t.eval.libero.episode import Policy
from gr00t.eval.libero.process import SimulatorProcess, choose_backend, simulator_environ
from gr00t.eval.libero.records import EpisodeRecord, RunFolder, summarize, summary_table
from gr00t.eval.libero.runner import EvalPlan, evaluate
from gr00t.eval.libero.suites import (
    LiberoError,
    find_suite,
    libero_package,
    load_tasks,
    parse_task_indices,
)
from gr00t.eval.wire import WireError

logger = logging.getLogger("gr00t.libero_eval")


@dataclasses.dataclass
class Options:
    """Evaluate a served policy on a LIBERO suite."""

    suite: str
    """libero_spatial, libero_object, libero_goal, libero_10 or libero_90."""
    host: str = "localhost"
    """Where the policy server runs."""
    port: int = 5555
    """Its port."""
    api_token: str | None = None
    """Its token, if it wants one."""
    wait: float = 600.0
    """Seconds to wait for the server to come up; loading and quantizing a model takes a while."""
    tasks: str = "all"
    """Tasks of the suite: all, 3, 0,3 or 0-4."""
    trials: int = 5
    """Episodes per task, from its first recorded initial states."""
    replan_steps: int = 8
    """Actions executed of each chunk before the policy is asked again."""
    max_steps: int | None = None
    """Steps after which an episode has failed (default: the suite's published limit)."""
    seed: int = 0
    """Seeds the placement of fixtures and the policy's flow noise."""
    video: Literal["all", "failures", "none"] = "all"
    """Episodes to keep a video of. Its frames are drawn while playing, which costs time; none is fastest."""
    video_every: int = 2
    """Steps (of 50 ms) per video frame."""
    output: Path | None = None
    """Folder of this run (default: runs/SUITE-DATE-TIME)."""
    assets: str = "auto"
    """auto (LIBERO_ASSETS, else the hub, else the built-in stand-ins), stand-ins, hub, or a folder."""
    gl: Literal["auto", "osmesa", "egl"] = "auto"
    """Library to draw with (default: MUJOCO_GL, else osmesa)."""
    headless: bool = True
    """Accepted for habit's sake: no window is ever opened."""


def run(options: Options, environ: dict[str, str], policy: Policy | None = None) -> int:
    """Evaluate as `options` say and return the exit status.

    Args:
        options: The command line.
        environ: The environment variables; not changed.
        policy: Asked instead of a server, for tests.

    Raises:
        LiberoError: A request that cannot be met; also the client's errors pass through.
    """
    # Everything that can be wrong with the request itself is found before anything is waited for.
    suite = find_suite(options.suite)
    indices = parse_task_indices(options.tasks, suite)
    package = libero_package()
    tasks = load_tasks(suite, package)
    plan = EvalPlan(
        suite=suite,
        tasks=[tasks[index] for index in indices],
        trials=options.trials,
        seed=options.seed,
        replan_steps=options.replan_steps,
        max_steps=options.max_steps,
        video=options.video,
        record_every=options.video_every,
    )
    backend = choose_backend(options.gl, environ)
    assets = resolve_assets(suite, package=package, environ=environ, choice=options.assets)
    folder = RunFolder(options.output or Path("runs") / f"{suite.name}-{datetime.now():%Y%m%d-%H%M%S}")

    address = "in-process"
    quantization: dict[str, Any] | None = None
    if policy is None:
        client = ExternalRobotInferenceClient(options.host, options.port, api_token=options.api_token)
        if not client.ping(2_000):
            logger.info(
                "no server answers yet; if none is starting: ./run_inference_server.sh %s", suite.name
            )
        client.wait_until_ready(options.wait)
        address, policy, quantization = client.address, client, quantization_of(client)

    simulator = SimulatorProcess(
        assets.path,
        simulator_environ(environ, backend=backend, package=package),
        folder.simulator_log,
    )
    records: list[EpisodeRecord] = []
    started = time.perf_counter()
    try:
        simulator.start()
        labels = {
            "assets": assets.kind,
            "assets_fingerprint": assets.fingerprint,
            "gl_backend": backend,
            "quantized_layers": None if quantization is None else quantization.get("layers_quantized", 0),
            "server": address,
            "versions": {"gr00t": gr00t.__version__, **simulator.versions},
        }
        describe(plan, labels, quantization, folder, str(assets))
        for record in evaluate(dataclasses.replace(plan, labels=labels), simulator, policy, folder):
            records.append(record)
    finally:
        simulator.close()
        if records:
            wall = time.perf_counter() - started
            conclude(plan, labels, records, folder, wall)
    return 0 if any(record.success is not None for record in records) else 1


def quantization_of(client: ExternalRobotInferenceClient) -> dict[str, Any] | None:
    """The server's own account of its quantization; None from a server that has none to give."""
    try:
        return client.get_quantization_report()
    except ServerError as error:
        logger.warning("the server does not tell whether it is quantized: %s", error)
        return None


def describe(
    plan: EvalPlan,
    labels: dict[str, Any],
    quantization: dict[str, Any] | None,
    folder: RunFolder,
    assets: str,
) -> None:
    """Log what is about to run, and keep it with the run."""
    layers = labels["quantized_layers"]
    policy = f"{layers} quantized layers" if layers else "NOT quantized" if layers == 0 else "unknown to us"
    logger.info("suite      %s, %d tasks x %d trials", plan.suite.name, len(plan.tasks), plan.trials)
    logger.info("server     %s, %s", labels["server"], policy)
    logger.info("assets     %s", assets)
    logger.info(
        "protocol   %d actions executed per query, at most %d steps, seed %d",
        plan.replan_steps,
        plan.step_limit,
        plan.seed,
    )
    if plan.video == "none":
        logger.info("video      none: images are drawn once per query, not per step")
    else:
        logger.info("video      %s, a frame every %d steps", plan.video, plan.record_every)
    logger.info("results    %s", folder.path)
    content = {
        "suite": plan.suite.name,
        "tasks": [task.index for task in plan.tasks],
        "trials": plan.trials,
        "seed": plan.seed,
        "replan_steps": plan.replan_steps,
        "max_steps": plan.step_limit,
        **labels,
        "quantization": quantization,
    }
    (folder.path / "run.json").write_text(json.dumps(content, indent=2) + "\n")


def conclude(
    plan: EvalPlan,
    labels: dict[str, Any],
    records: Sequence[EpisodeRecord],
    folder: RunFolder,
    wall_seconds: float,
) -> None:
    """Print the table for people and, as the last line, the summary for programs."""
    planned = len(plan.tasks) * plan.trials
    summary = {
        "suite": plan.suite.name,
        "complete": len(records) == planned,
        **summarize(records),
        "seed": plan.seed,
        "replan_steps": plan.replan_steps,
        "assets": labels["assets"],
        "quantized_layers": labels["quantized_layers"],
        "wall_seconds": round(wall_seconds, 1),
        "output": str(folder.path),
    }
    print(summary_table(summary))
    if len(records) < planned:
        print(f"stopped after {len(records)} of {planned} episodes")
    (folder.path / "summary.json").write_text(json.dumps(summary) + "\n")
    print(json.dumps(summary))


def main() -> int:
    """Parse the command line, run, and turn foreseeable errors into one line each."""
    log_to_stderr()
    options = tyro.cli(Options, description=__doc__)
    try:
        return run(options, dict(os.environ))
    except (LiberoError, ServerError, NoServerError, NoReplyError, WireError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
