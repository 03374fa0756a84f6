"""Evaluate policies on a LIBERO suite, side by side: same tasks, initial states and flow noise for every arm.

python scripts/evaluate.py --suite libero_object --arms bf16,w4a8,recommended --model PATH_OR_HUB_ID
python scripts/evaluate.py --suite libero_object --arms mine=localhost:5555,replay --trials 10

Episodes, what each arm was, and a report with verdicts land in one folder under runs/. A run that was
stopped, or killed, is continued by the same command with --output FOLDER. The last line of the output is a
summary as JSON.
"""

from __future__ import annotations

from gr00t.processes.ending import Ending, Stopped, say


def main() -> int:
    """Run as a program; see `gr00t.cli.evaluation.main` for the status."""
    ending = Ending()
    try:
        # Imported here: a signal during the second that this takes is received in order, too.
        from gr00t.cli import evaluation as program

        return program.main(ending, __doc__)
    except Stopped:
        say("interrupted")
        return ending.status
    finally:
        ending.close()
