"""A run that ends with its verdicts: each arm plays beside the base until its own is decided.

One arm after the other: the base plays up to the arm's next look, as far as earlier arms have not needed it
to, then the arm, then both are compared. So there are never more than two policies in memory. A control is
not judged, it plays up to the first look.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Sequence

from gr00t.eval.arms.arms import Arm
from gr00t.eval.arms.recipes import GREY
from gr00t.eval.interim.order import PlannedPair, pair_order
from gr00t.eval.interim.records import Look, LookLog, LookPlan
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.eval.rollout.record_parts import EpisodeKey
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.session.options import EvaluationOptions
from gr00t.eval.session.playing import PlaySetup, Stage
from gr00t.eval.session.preparation import ReadyArm
from gr00t.eval.statistics.pairs import pair_up
from gr00t.eval.statistics.runs import CONTROL_KINDS
from gr00t.eval.statistics.sequential import judge_look, plan_looks
from gr00t.libero.tasks.suites import LiberoError, Task, load_init_states

logger = logging.getLogger("gr00t.evaluate")


def pool_of(options: EvaluationOptions, tasks: Sequence[Task]) -> tuple[int, tuple[int, ...]]:
    """Initial states per task and seeds that give enough pairs, where the command line names none.

    States are the first half of those that were recorded, which no calibration uses. Of seeds there are as
    many as it takes.
    """
    trials = options.trials
    if trials is None:
        trials = max(1, min(len(load_init_states(task)) for task in tasks) // 2 - options.init_offset)
    seeds = -(-options.max_pairs // (trials * len(tasks)))
    return trials, tuple(range(options.seed, options.seed + seeds))


def fix_looks(options: EvaluationOptions, plans: Sequence[EvalPlan], arms: Sequence[Arm]) -> LookPlan:
    """All looks of a run.

    Raises:
        LiberoError: there is nothing to compare, or too little.
    """
    base = _baseline(options, arms)
    if len(arms) < 2:
        raise LiberoError("--until-decided compares arms: expected at least two in --arms")
    if not 0 < options.margin < 100:
        raise LiberoError(f"margin {options.margin:g}: expected percentage points above 0 and below 100")
    tasks = len(plans[0].tasks)
    found = sum(len(plan.jobs()) for plan in plans)
    try:
        return plan_looks(tasks, min(options.max_pairs, found), options.margin, base, options.seed)
    except ValueError as error:
        raise LiberoError(f"--until-decided: {error}") from None


def describe_looks(looks: LookPlan) -> None:
    """Log the plan."""
    logger.info(
        "looks      at %s pairs, at a margin of %g points, against %s: %s",
        ", ".join(map(str, looks.pairs)),
        looks.margin,
        looks.baseline,
        looks.rule,
    )


def play_until_decided(setup: PlaySetup, looks: LookPlan) -> None:
    """Play until every arm's verdict is decided, or until all pairs are played."""
    log = LookLog(setup.folder.path, looks)
    undecided = [
        arm for arm in setup.arms if arm.name != looks.baseline and log.next_number(arm.name) is not None
    ]
    if not undecided:
        logger.info("every arm is decided: nothing to play")
        return
    unjudged = controls(setup.arms)
    base = next(arm for arm in setup.arms if arm.name == looks.baseline)
    plan = setup.plans[0]
    order = pair_order(
        [task.index for task in plan.tasks],
        list(plan.init_states),
        [plan.seed for plan in setup.plans],
        looks.order_seed,
    )
    with setup.opened() as stage, contextlib.ExitStack() as closing_base:
        ready_base: ReadyArm | None = None
        for arm in undecided:
            with contextlib.ExitStack() as closing:
                ready: ReadyArm | None = None
                while (number := log.next_number(arm.name)) is not None:
                    pairs = order[: looks.pairs[number - 1]]
                    if _left(base.name, pairs, setup.folder):
                        ready_base = ready_base or stage.arms.prepare(base, closing_base)
                        _play(stage, ready_base, pairs)
                    if _left(arm.name, pairs, setup.folder):
                        ready = ready or stage.arms.prepare(arm, closing)
                        _play(stage, ready, pairs)
                    look = _look(arm, number, pairs, setup.folder, looks)
                    if arm.name in unjudged:
                        look = look.model_copy(update={"decision": "control"})
                    log.add(look)
                    _tell(look, looks)


def _play(stage: Stage, ready: ReadyArm, pairs: Sequence[PlannedPair]) -> None:
    """Play what is left of these pairs, seed by seed: another seed is another scene."""
    name, plans = ready.facts.name, {plan.seed: plan for plan in stage.setup.plans}
    left = _left(name, pairs, stage.setup.folder)
    for seed, group in itertools.groupby(left, key=lambda pair: pair.seed):
        tasks = {task.index: task for task in plans[seed].tasks}
        stage.play(ready, plans[seed], [EpisodeJob(tasks[pair.task], pair.init_state) for pair in group])


def _left(arm: str, pairs: Sequence[PlannedPair], folder: RunFolder) -> list[PlannedPair]:
    return [pair for pair in pairs if not folder.has_played(_key(arm, pair, folder))]


def _look(arm: Arm, number: int, pairs: Sequence[PlannedPair], folder: RunFolder, looks: LookPlan) -> Look:
    """Compare an arm with the base over the pairs of a look; those that the simulator lost are missing."""
    ours, theirs = (
        [folder.records[key] for pair in pairs if (key := _key(name, pair, folder)) in folder.records]
        for name in (arm.name, looks.baseline)
    )
    found = pair_up(ours, theirs)
    if not found.pairs:
        raise LiberoError(f"{arm.name}: the simulator lost all of its first {len(pairs)} pairs")
    return judge_look(arm.name, number, looks, found.by_task(), len(pairs) - len(found.pairs))


def controls(arms: Sequence[Arm]) -> set[str]:
    """Names of the arms that stand beside those that are to be judged, as `compare` has it."""
    kinds = {
        arm.name: GREY if arm.recipe is not None and arm.recipe.images == GREY else arm.kind for arm in arms
    }
    judges_policies = any(kind not in CONTROL_KINDS for kind in kinds.values())
    return {
        name
        for name, kind in kinds.items()
        if kind in CONTROL_KINDS and (judges_policies or kind != "expert")
    }


def _key(arm: str, pair: PlannedPair, folder: RunFolder) -> EpisodeKey:
    return EpisodeKey(arm, folder.plan["suite"], pair.task, pair.init_state, pair.seed)


def _tell(look: Look, looks: LookPlan) -> None:
    logger.info(
        "look %d of %d: %s, %d pairs, %d won, %d lost, %+.1f points, bounds %+.1f to %+.1f: %s",
        look.number,
        len(looks.pairs),
        look.arm,
        look.pairs,
        look.wins,
        look.losses,
        100 * look.difference,
        100 * look.low,
        100 * look.high,
        look.decision,
    )


def _baseline(options: EvaluationOptions, arms: Sequence[Arm]) -> str:
    """As `gr00t.eval.statistics.compare` chooses it."""
    if options.baseline is not None:
        return options.baseline
    unjudged = controls(arms)
    judged = [arm.name for arm in arms if arm.name not in unjudged]
    if not judged:
        raise LiberoError("--until-decided: no arm but controls; name the --baseline")
    return "bf16" if "bf16" in judged else judged[0]
