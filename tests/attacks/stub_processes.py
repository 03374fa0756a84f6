"""An evaluation of real processes without a model or LIBERO, to be killed: server, simulators, their starter.

zygote            forks an evaluation for every line FOLDER SECONDS_PER_STEP MARK; says its process id
server PORT       a policy whose actions its seeds decide
anything else     a simulator, as `SimulatorProcess` starts one
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gr00t.eval.arms.hosts import StartedHost
from gr00t.eval.arms.server_process import PORT, ServerProcess
from gr00t.eval.rollout.agents import Expert, PolicyAgent
from gr00t.eval.rollout.pool import LocalPool
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.eval.rollout.runner import run_arm
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.processes import watchdog
from gr00t.serving.robot import RobotInferenceServer
from tests.eval.rollout.stubs import CONDITIONS, TASKS, StubPolicy, StubSimulator, asked, stub_plan

PLAN = stub_plan(tasks=tuple(TASKS), trials=4, video="failures")
SUCCESS_AT = {(0, 1): 5, (1, 0): 12, (2, 3): 7}
SECONDS = "STUB_SECONDS_PER_STEP"
MARK = "STUB_MARK"


class SeededPolicy(StubPolicy):
    def get_action(
        self, observations: dict[str, Any], *, seed: Any = None, seeds: Any = None
    ) -> dict[str, Any]:
        actions = super().get_action(observations, seed=seed, seeds=seeds)
        drawn = np.random.default_rng(seed if seeds is None else seeds).uniform(-1, 1, 16)
        actions["action.x"] = drawn.astype(np.float32)[:, None]
        return actions


def evaluate(folder: Path, log: Path) -> None:
    """Play two arms by two simulators; what is there already is not played again."""
    program = os.path.realpath(__file__)
    watchdog_command = watchdog.command()
    # This program in place of the ones that are started; what SimulatorProcess adds is left unread.
    watchdog.command = lambda: [*watchdog_command, program]  # type: ignore[assignment]
    simulators = [SimulatorProcess(folder, dict(os.environ), log / f"{n}.log") for n in range(2)]
    pool = LocalPool(simulators)
    host = StartedHost(ServerProcess(["server", PORT], dict(os.environ), log / "server.log"))
    definitions = {"policy": {"kind": "address"}, "expert": {"kind": "expert"}}
    try:
        with RunFolder(folder, asked(PLAN, **definitions)) as run:
            run_arm("expert", PLAN, pool, Expert, CONDITIONS, run)
            host.start()
            run_arm("policy", PLAN, pool, partial(PolicyAgent, host), CONDITIONS, run)
    finally:
        pool.close()
        host.close()


def simulate() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    simulator = StubSimulator(dict(SUCCESS_AT), {}, float(os.environ[SECONDS]))
    pickle.dump(simulator.versions, replies)
    replies.flush()
    pickle.load(sys.stdin.buffer)  # how a real simulator would be made
    while True:
        try:
            function, args, _ = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(simulator.run(function, *args), replies)
        replies.flush()


def zygote() -> None:
    # Nobody waits for the killed ones.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        folder, seconds, mark = line.split()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ.update({SECONDS: seconds, MARK: mark})
            log = Path(f"{folder}-logs")
            log.mkdir(exist_ok=True)
            status = 1
            try:
                evaluate(Path(folder), log)
                status = 0
            finally:
                (log / f"status-{os.getpid()}").write_text(str(status))
                os._exit(status)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "zygote":
        zygote()
    elif sys.argv[1] == "server":
        RobotInferenceServer(SeededPolicy(), port=int(sys.argv[2])).run()
    else:
        simulate()
