"""A whole run on stub simulators, as a program that can be killed: FOLDER [STEP_SECONDS [WORKERS]]."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from gr00t.eval.rollout.agents import Expert, PolicyAgent
from gr00t.eval.rollout.pool import LocalPool
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.rollout.runner import run_arm
from tests.eval.rollout.stubs import CONDITIONS, TASKS, StubHost, StubSimulator, asked, stub_plan

PLAN = stub_plan(tasks=tuple(TASKS), trials=4, video="failures")
SUCCESS_AT = {(0, 1): 5, (1, 0): 12, (2, 3): 7}


def main(folder: Path, step_seconds: float = 0.0, workers: int = 2) -> None:
    pool = LocalPool([StubSimulator(dict(SUCCESS_AT), {}, step_seconds) for _ in range(workers)])
    definitions = {"policy": {"kind": "address"}, "expert": {"kind": "expert"}}
    with RunFolder(folder, asked(PLAN, **definitions)) as run:
        run_arm("policy", PLAN, pool, partial(PolicyAgent, StubHost()), CONDITIONS, run)
        run_arm("expert", PLAN, pool, Expert, CONDITIONS, run)
    pool.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]), *map(int, sys.argv[3:]))
