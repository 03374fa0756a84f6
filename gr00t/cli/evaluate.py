"""Evaluate policies on a LIBERO suite, side by side: same tasks, initial states and flow noise for every arm.

    python scripts/evaluate.py --suite libero_object --arms bf16,w4a8,recommended --model PATH_OR_HUB_ID
    python scripts/evaluate.py --suite libero_object --arms mine=localhost:5555,replay --trials 10

Episodes, what each arm was, and a report with verdicts land in one folder under runs/. A run that was
stopped, or killed, is continued by the same command with --output FOLDER. The last line of the output is a
summary as JSON.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os

from gr00t.cli.running import FAILED, confirmed, is_attended, parse_command_line, run_program
from gr00t.processes.ending import say

# All was asked for and done, but the simulator lost episodes.
LOST = 3


def evaluate() -> int:
    """Evaluate as this process's command line says; return the exit status."""
    # Imported here: a signal during the second that this takes is received in order, too.
    from gr00t.eval.session.options import EvaluationOptions

    options = parse_command_line(EvaluationOptions, __doc__)
    from gr00t.eval.session.session import run

    environ = dict(os.environ)
    agree = functools.partial(agrees_to_download, asks=not options.yes and is_attended(environ))
    try:
        summary = run(options, environ, tell, agree)
    except MemoryError:
        say("error: out of memory; what was played is kept, the same command with --output goes on")
        return FAILED
    print(json.dumps(summary), flush=True)
    lost = sum(arm["simulator_errors"] for arm in summary["arms"].values())
    if lost:
        say(f"{lost} episodes were lost to the simulator; the same command with --output plays them again")
    return LOST if lost else 0


def agrees_to_download(told: str, *, asks: bool) -> bool:
    """Tell what would be downloaded; return whether to, which is yes where nobody is asked."""
    say(told)
    return not asks or confirmed("Download them?")


def tell(text: str) -> None:
    """Print what a run tells, if the terminal is still there."""
    with contextlib.suppress(OSError):
        print(text)


def main() -> int:
    """Run as a program.

    The status is 0 when all was played, 3 when the simulator lost episodes, 130 after Ctrl-C, 143 after
    SIGTERM, 129 when the terminal was closed, 1 for everything else.
    """
    return run_program(evaluate, heeds_signals=True)


if __name__ == "__main__":
    raise SystemExit(main())
