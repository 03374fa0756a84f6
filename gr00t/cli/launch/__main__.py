"""Reads what a script was asked for, and answers or does it: `[--groups] SCRIPT ARGUMENT...`."""

from __future__ import annotations

import os
import sys

from gr00t.cli.errors import UsageError
from gr00t.cli.launch.requests import read_request
from gr00t.cli.running import FAILED, run_program
from gr00t.processes.ending import say


def main(script: str, *arguments: str) -> int:
    """Tell what has to be installed, or do what is asked for; return the exit status."""
    tells = script == "--groups"
    try:
        request = read_request(*arguments) if tells else read_request(script, *arguments)
    except UsageError as error:
        # The scripts end with 1 for whatever keeps them from starting.
        say(f"error: {error}")
        return FAILED
    if tells:
        print(*request.groups)
        return 0
    from gr00t.cli.launch.actions import do

    return do(request, dict(os.environ))


if __name__ == "__main__":
    # A signal is how serving ends: there is nothing to say of it.
    sys.exit(run_program(lambda: main(*sys.argv[1:]), interrupted="", heeds_signals=True))
