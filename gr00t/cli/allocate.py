"""Allocate bits to layers by what each does to the actions, within a budget, and write the recipe.

    gr00t-calibrate --model-path CHECKPOINT --libero libero_object --packdir PACKS --save FILE
    gr00t-allocate CHECKPOINT --packdir PACKS --observations FILE --budget 4.25
    gr00t-drift --model CHECKPOINT --arms allocation/allocated-4.25.toml --observations OTHERS

Each layer alone is quantized at each number of bits, and the policy asked again under the same flow noise:
err is the geometric mean, over observations, of the relative error of the motion that is executed. Squared
errors add, so bits go where they take most of that sum off per byte. The recipe is then measured as a whole,
beside as many bits everywhere.

What was measured is kept in --output: the same command goes on where it was ended, and another --budget takes
moments. The last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import os

from gr00t.cli.allocation.arguments import AllocateArguments, check_arguments
from gr00t.cli.running import run_command


def run(arguments: AllocateArguments) -> None:
    """Allocate, and say what came of it."""
    task = check_arguments(arguments, os.environ)
    # After the checks: importing torch and transformers takes seconds.
    from gr00t.cli.allocation.program import allocate_bits
    from gr00t.eval.allocation.outcome import summary_table

    outcome = allocate_bits(task, os.environ)
    print(f"\n{summary_table(outcome)}\n")
    print(f"recipe: {arguments.output / outcome.name}.toml; table and plot: .md, .json and .png beside it")
    print(json.dumps(outcome.to_dict()))


def main() -> int:
    """Run as a program: status 0 when the recipe is there, 2 for wrong flags, 1 for everything else."""
    return run_command(
        AllocateArguments,
        run,
        __doc__,
        interrupted="interrupted; the same command goes on from here",
        heeds_signals=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
