"""Evaluate policies on a LIBERO suite, side by side: same tasks, initial states and flow noise for every arm.

python scripts/evaluate.py --suite libero_object --arms bf16,w4a8,recommended --model PATH_OR_HUB_ID
python scripts/evaluate.py --suite libero_object --arms mine=localhost:5555,replay --trials 10

Episodes, what each arm was, and a report with verdicts land in one folder under runs/. A run that was
stopped, or killed, is continued by the same command with --output FOLDER. The last line of the output is a
summary as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import tyro
from evaluation.options import Options
from evaluation.session import run

from gr00t.console import log_to_stderr
from gr00t.eval.client import NoReplyError, NoServerError, ServerError
from gr00t.eval.libero.controls import PolicyLostError
from gr00t.eval.libero.simulator import SimulatorError
from gr00t.eval.libero.suites import LiberoError
from gr00t.eval.wire import WireError

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


def main() -> int:
    """Run as a program: status 0 when all was played, 130 after Ctrl-C, 1 for everything else."""
    log_to_stderr()
    options = tyro.cli(Options, description=__doc__)
    # As Ctrl-C does: simulators and servers are ended in order.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        summary = run(options, dict(os.environ))
    except FORESEEN as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
