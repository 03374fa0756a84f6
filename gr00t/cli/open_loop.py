"""Compare a policy's actions with recorded ones, step by step, without a robot or a simulator.

    python scripts/eval_policy.py --dataset-path FOLDER --model-path nvidia/GR00T-N1.5-3B --trajs 5 --plot
    python scripts/eval_policy.py --dataset-path FOLDER --port 5555

Without --model-path a running server is asked, NVIDIA's as well. The GR00T_DUQUANT_* variables quantize a
model that is loaded here; of a server, what it says of itself is printed. Flow noise follows from --seed,
episode and step, so two runs differ by the policies alone: W4A8 is compared with bf16 by one run of each.

Errors are in the units of the data. The last line is the result as JSON.
"""

from __future__ import annotations

import json

from gr00t.cli.prediction.arguments import OpenLoopArguments
from gr00t.cli.running import run_command


def run(arguments: OpenLoopArguments) -> None:
    """Compare, and say the result as JSON."""
    from gr00t.cli.prediction.comparison import evaluate

    print(json.dumps(evaluate(arguments)))


def main() -> int:
    """Run as a program: 0 when all episodes were followed, 2 for wrong flags, 1 for everything else."""
    return run_command(OpenLoopArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
