"""Arms in front of simulators: whoever plays a run, of a fixed number of episodes or until it is decided."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gr00t
from gr00t.eval.arms.arms import Arm
from gr00t.eval.rollout.cluster import RayPool
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.eval.rollout.pool import LocalPool, Pool
from gr00t.eval.rollout.record_parts import ArmConditions
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.rollout.runner import jobs_left, run_arm
from gr00t.eval.session import servers
from gr00t.eval.session.options import EvaluationOptions
from gr00t.eval.session.preparation import ArmSetup, ReadyArm
from gr00t.libero.simulator.setup import SimulatorSetup
from gr00t.serving.identity import digest

logger = logging.getLogger("gr00t.evaluate")

# Fields of an episode's conditions that an arm's facts tell.
_OF_THE_ARM = ("denoising_steps", "quantized_layers", "server")


@dataclass(frozen=True)
class PlaySetup:
    """What playing takes, the same for all arms of a run.

    Attributes:
        options: The command line.
        plans: One for each seed.
        arms: In the order in which they were asked for.
        workers: Simulators, with a cluster on each node.
        simulators: How they are made.
        folder: Of the run.
        conditions: Of all episodes, for the records.
        environ: The environment variables.
    """

    options: EvaluationOptions
    plans: Sequence[EvalPlan]
    arms: Sequence[Arm]
    workers: int
    simulators: SimulatorSetup
    folder: RunFolder
    conditions: Mapping[str, Any]
    environ: Mapping[str, str]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Stage]:
        """Simulators, until the block ends."""
        with contextlib.ExitStack() as stack:
            pool: Pool
            start_servers = None
            if self.options.cluster is not None:
                make = functools.partial(SimulatorSetup.make, self.simulators.elsewhere())
                pool = ray_pool = RayPool(self.options.cluster, make, self.workers, servers.ROOT)
                start_servers = ray_pool.start_servers
            else:
                self.simulators.prepare()
                pool = LocalPool([self.simulators.make(number) for number in range(self.workers)])
            stack.callback(pool.close)
            arms = ArmSetup(
                self.options, self.plans[0], self.folder, self.environ, self.simulators, start_servers
            )
            yield Stage(self, pool, arms)


@dataclass(frozen=True)
class Stage:
    """Simulators, and what makes arms ready for them."""

    setup: PlaySetup
    pool: Pool
    arms: ArmSetup

    def play(
        self,
        ready: ReadyArm,
        plan: EvalPlan,
        jobs: Sequence[EpisodeJob] | None = None,
        left_elsewhere: int = 0,
    ) -> None:
        """Let an arm play what is left of a plan, or of some of its episodes; see `run_arm`."""
        facts = ready.facts
        run_arm(
            facts.name,
            plan,
            self.pool,
            ready.make_agent,
            ArmConditions(
                **self.setup.conditions,
                **{name: getattr(facts, name) for name in _OF_THE_ARM},
                versions={"gr00t": gr00t.__version__},
                identity=digest(facts.identity),
            ),
            self.setup.folder,
            jobs=jobs,
            left_elsewhere=left_elsewhere,
        )


def play_all(setup: PlaySetup) -> None:
    """Play what is left of every arm, one after the other, and of its seeds likewise."""
    plans, folder = setup.plans, setup.folder
    left = {
        (arm.name, plan.seed): len(jobs_left(arm.name, plan, folder)) for arm in setup.arms for plan in plans
    }
    if not any(left.values()):
        logger.info("all episodes are there: nothing to play")
        return
    with setup.opened() as stage:
        for arm in setup.arms:
            unfinished = [plan for plan in plans if left[arm.name, plan.seed]]
            if not unfinished:
                logger.info(
                    "%s: all %d episodes are there", arm.name, sum(len(plan.jobs()) for plan in plans)
                )
                continue
            with contextlib.ExitStack() as closing:
                ready = stage.arms.prepare(arm, closing)
                for plan in unfinished:
                    if len(plans) > 1:
                        logger.info("%s: seed %d", arm.name, plan.seed)
                    elsewhere = sum(left.values()) - left[arm.name, plan.seed]
                    stage.play(ready, plan, left_elsewhere=elsewhere)
                    left[arm.name, plan.seed] = 0
