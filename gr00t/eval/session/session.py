"""A run from its command line to its report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gr00t.eval.arms.arms import Arm, parse_arms
from gr00t.eval.arms.hosts import ServerChangedError
from gr00t.eval.arms.published import suite_model
from gr00t.eval.interim.records import KEY as LOOKS
from gr00t.eval.rollout.plan import EvalPlan, check_init_states, parse_seeds
from gr00t.eval.rollout.run_folder import RunFolder, RunFolderError
from gr00t.eval.session import artefacts, servers
from gr00t.eval.session.looks import keep_to, settle_assets
from gr00t.eval.session.options import DEFAULT_MAX_PAIRS, DEFAULT_TRIALS, EvaluationOptions
from gr00t.eval.session.playing import PlaySetup, play_all
from gr00t.eval.session.server_checks import needs_calibration
from gr00t.eval.session.until_decided import describe_looks, fix_looks, play_until_decided, pool_of
from gr00t.files.output_folder import unused_folder
from gr00t.files.shipped import RECIPES
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.libero.tasks.perturbations import suite_title
from gr00t.libero.tasks.suites import (
    LiberoError,
    find_suite,
    libero_package,
    load_tasks,
    parse_task_indices,
)
from gr00t.quantization.settings.environment import settings_in

logger = logging.getLogger("gr00t.evaluate")

_MOST_WORKERS = 8


def run(
    options: EvaluationOptions,
    environ: Mapping[str, str],
    tell: Callable[[str], object] = lambda text: None,
    agree: Callable[[str], bool] | None = None,
) -> dict[str, Any]:
    """Evaluate as `options` say; return the summary.

    Args:
        options: The command line.
        environ: The environment variables.
        tell: Receives the table of verdicts, and how to go on with a run that was stopped.
        agree: Is told what LIBERO's own assets take and answers whether to install them; without it they are
            used where they are.

    Raises:
        LiberoError: a request that cannot be met. The errors of clients and servers pass through.
    """
    # Everything that can be wrong with the request itself is found before anything is started or waited for.
    if options.seeds and options.seed:
        raise LiberoError(f"--seed {options.seed} and --seeds {options.seeds}: give one of them")
    seeds = parse_seeds(options.seeds) if options.seeds else (options.seed,)
    suite = find_suite(options.suite)
    found = load_tasks(suite, libero_package(), environ)
    tasks = tuple(found[index] for index in parse_task_indices(options.tasks, suite))
    trials = DEFAULT_TRIALS if options.trials is None else options.trials
    if options.until_decided:
        trials, enough = pool_of(options, tasks)
        seeds = seeds if options.seeds else enough
    elif options.max_pairs != DEFAULT_MAX_PAIRS:
        raise LiberoError("--max-pairs needs --until-decided; without it --trials and --seeds say how many")
    # The first one is that of calibrations.
    options = dataclasses.replace(options, seed=seeds[0])
    plan = EvalPlan(
        suite=suite,
        tasks=tasks,
        trials=trials,
        init_offset=options.init_offset,
        placement=options.placement,
        seed=options.seed,
        replan_steps=options.replan_steps,
        max_steps=options.max_steps,
        video=options.video,
        record_every=options.video_every,
    )
    plans = [dataclasses.replace(plan, seed=seed) for seed in seeds]
    arms = parse_arms(
        options.arms or f"{options.host}:{options.port}",
        RECIPES,
        settings_in(environ),
    )
    check_arms(arms, plan, options)
    workers = options.workers or max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) // 2))
    if workers < 1:
        raise LiberoError(f"workers: expected a positive number, got {workers}")
    options = settle_assets(options, suite, arms, environ, agree)
    with contextlib.ExitStack() as stack:
        path = options.output or stack.enter_context(
            unused_folder(Path("runs") / f"{suite.name}-{datetime.now():%Y%m%d-%H%M%S}", "--output")
        )
        return evaluate(options, plans, arms, workers, path, environ, tell)


def evaluate(
    options: EvaluationOptions,
    plans: list[EvalPlan],
    arms: list[Arm],
    workers: int,
    path: Path,
    environ: Mapping[str, str],
    tell: Callable[[str], object],
) -> dict[str, Any]:
    """Play what is left of a run in its folder, and report; return the summary."""
    plan, suite = plans[0], plans[0].suite
    simulators = SimulatorSetup(
        suite, options.assets, options.gl, options.rendering, environ, (path / "simulators").absolute()
    )
    options = keep_to(simulators.found_assets, options, arms, environ)
    conditions = {
        "assets": simulators.found_assets.kind,
        "assets_fingerprint": simulators.found_assets.fingerprint,
        "rendering": simulators.found_rendering.label,
        "placement": plan.placement,
        "gl_backend": simulators.backend,
    }
    asked = {
        **plan.conditions(),
        **conditions,
        **servers.conditions(options, suite),
        **plan.coverage(),
        "seeds": [plan.seed for plan in plans],
        "arms": {arm.name: arm.definition() for arm in arms},
    }
    looks = fix_looks(options, plans, arms) if options.until_decided else None
    if looks is not None:
        asked[LOOKS] = looks.told()
    with RunFolder(path.absolute(), asked) as folder:
        describe(plans, arms, workers, simulators, folder)
        if looks is not None:
            describe_looks(looks)
        complete, goes_on = False, True
        try:
            setup = PlaySetup(options, plans, arms, workers, simulators, folder, conditions, environ)
            if looks is None:
                play_all(setup)
            else:
                play_until_decided(setup, looks)
            complete = True
        except (RunFolderError, ServerChangedError):
            goes_on = False  # it says itself what does
            raise
        finally:
            summary = conclude(folder, options, tell, complete=complete, goes_on=goes_on)
    return summary


def check_arms(arms: list[Arm], plan: EvalPlan, options: EvaluationOptions) -> None:
    """Refuse settings and initial states that cannot be, before anything is started."""
    needing = [arm.name for arm in arms if arm.kind == "replay"]
    for arm in arms:
        if arm.kind == "recipe":
            model = options.model or suite_model(plan.suite.name)
            config, artefact = artefacts.settle_recipe(arm, model)
            if artefact is None and config is not None and needs_calibration(arm, config):
                needing.append(arm.name)
    check_init_states(plan, needing)
    names = [arm.name for arm in arms]
    if options.baseline is not None and options.baseline not in names:
        raise LiberoError(f"--baseline {options.baseline!r}: expected one of {', '.join(names)}")


def describe(
    plans: list[EvalPlan], arms: list[Arm], workers: int, simulators: SimulatorSetup, folder: RunFolder
) -> None:
    """Log what is about to run."""
    plan = plans[0]
    states = plan.init_states
    logger.info(
        "suite      %s, %d tasks x %d trials (initial states %d to %d)",
        suite_title(plan.suite.name),
        len(plan.tasks),
        plan.trials,
        states.start,
        states.stop - 1,
    )
    for arm in arms:
        what = f"{arm.kind} {arm.host}:{arm.port}" if arm.kind == "address" else arm.kind
        logger.info("arm        %s: %s", arm.name, arm.recipe.description if arm.recipe else what)
    logger.info("assets     %s", simulators.found_assets)
    logger.info(
        "drawing    %s, %s; %d simulators", simulators.backend, simulators.found_rendering.label, workers
    )
    logger.info(
        "protocol   %s placements, %d actions executed per query, at most %d steps, seed%s %s",
        plan.placement,
        plan.replan_steps,
        plan.step_limit,
        "s" if len(plans) > 1 else "",
        ", ".join(str(plan.seed) for plan in plans),
    )
    logger.info("results    %s", folder.path)


def conclude(
    folder: RunFolder,
    options: EvaluationOptions,
    tell: Callable[[str], object],
    *,
    complete: bool,
    goes_on: bool,
) -> dict[str, Any]:
    """Count what the folder holds, write the report, and tell the verdicts, and whether the run goes on."""
    arms = {}
    for name in folder.plan["arms"]:
        records = [record for record in folder.records.values() if record.key.arm == name]
        played = [record for record in records if record.was_played]
        arms[name] = {
            "episodes": len(played),
            "successes": sum(bool(record.outcome.success) for record in played),
            "simulator_errors": len(records) - len(played),
        }
    summary = {
        "suite": folder.plan["suite"],
        "complete": complete and not any(arm["simulator_errors"] for arm in arms.values()),
        "arms": arms,
        "assets": folder.plan["assets"],
        "rendering": folder.plan["rendering"],
        "output": str(folder.path),
    }
    try:
        if folder.records:
            tell(report(folder, options))
    except (LiberoError, OSError) as error:
        if complete:
            raise
        # What ended the run is what its user has to hear of.
        logger.warning("no report: %s", error)
    if not complete and goes_on:
        tell(f"stopped; the same command with --output {folder.path} goes on")
    return summary


def report(folder: RunFolder, options: EvaluationOptions) -> str:
    """Write the report into the folder; return its table for the terminal."""
    from gr00t.eval.report import write_report
    from gr00t.eval.statistics import verdict_table

    return verdict_table(write_report(folder.path, baseline=options.baseline, margin=options.margin))
