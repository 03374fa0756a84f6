"""Reads what a script was asked for, and answers or does it: `[--groups] SCRIPT ARGUMENT...`."""

from __future__ import annotations

import os
import sys

from gr00t.cli.launch.requests import read_request
from gr00t.cli.running import run_program


def main(script: str, *arguments: str) -> int:
    """Tell what has to be installed, or do what is asked for; return the exit status."""
    if script == "--groups":
        print(*read_request(*arguments).groups)
        return 0
    request = read_request(script, *arguments)
    from gr00t.cli.launch.actions import do

    return do(request, dict(os.environ))


if __name__ == "__main__":
    # A signal is how serving ends: there is nothing to say of it.
    sys.exit(run_program(lambda: main(*sys.argv[1:]), interrupted="", heeds_signals=True))
