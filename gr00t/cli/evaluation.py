"""scripts/evaluate.py behind its door: arguments, errors in one line, and the exit status."""

from __future__ import annotations

import json
import os

import tyro

from gr00t.console import log_to_stderr
from gr00t.eval.rollout.agents import PolicyLostError
from gr00t.eval.session.options import EvaluationOptions
from gr00t.eval.session.session import run
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.tasks.suites import LiberoError
from gr00t.processes.ending import Ending, Stopped, say
from gr00t.serving.client import NoReplyError, NoServerError, ServerError
from gr00t.serving.wires.n1_5 import WireError

# All was asked for and done, but the simulator lost episodes.
LOST = 3
FORESEEN = (
    LiberoError,
    SimulatorError,
    PolicyLostError,
    ServerError,
    NoServerError,
    NoReplyError,
    WireError,
    ValueError,
    OSError,
)


def main(ending: Ending, description: str | None) -> int:
    """Return the exit status.

    It is 0 when all was played, 3 when the simulator lost episodes, 130 after Ctrl-C, 143 after SIGTERM, 129
    when the terminal was closed, 1 for everything else.
    """
    try:
        log_to_stderr()
        summary = run(tyro.cli(EvaluationOptions, description=description), dict(os.environ))
        print(json.dumps(summary), flush=True)
    except FORESEEN as error:
        say(f"error: {error}")
        return 1
    except MemoryError:
        say("error: out of memory; what was played is kept, the same command with --output goes on")
        return 1
    except Stopped:
        say("interrupted")
        return ending.status
    lost = sum(arm["simulator_errors"] for arm in summary["arms"].values())
    if lost:
        say(f"{lost} episodes were lost to the simulator; the same command with --output plays them again")
    return LOST if lost else 0
