"""How far arms are from the policy as it is, before any simulator: same observations, same flow noise.

    gr00t-drift --model CHECKPOINT --arms w4a8,recommended --observations FILE
    gr00t-drift --model CHECKPOINT --arms mine.toml,localhost:5555 --data FOLDER
    gr00t-drift --model CHECKPOINT --arms recommended --libero libero_object
    gr00t-drift --model CHECKPOINT --data FOLDER

err is the geometric mean, over observations, of the relative error of the motion that is executed. An arm
passes, is to be played, or is rejected. What calibrates an arm never judges it. The last command has no arms:
predicted actions are compared with recorded ones (MSE and MAE of each action key).

The last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import os

from gr00t.cli.gate.arguments import DriftArguments
from gr00t.cli.running import run_command

# All was measured, and an arm is rejected.
REJECTED = 3


def run(arguments: DriftArguments) -> int:
    """Compare, say the result as JSON in the last line, and return the status."""
    if arguments.is_open_loop:
        from gr00t.cli.gate.recorded_actions import follow_recorded

        print(json.dumps(follow_recorded(arguments)))
        return 0
    from gr00t.cli.gate.program import compare

    result = compare(arguments, os.environ)
    return REJECTED if any(arm["verdict"] == "reject" for arm in result["arms"].values()) else 0


def main() -> int:
    """Run as a program: 0 where no arm is rejected, 3 where one is, 2 for wrong flags, 1 for other errors."""
    return run_command(DriftArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
