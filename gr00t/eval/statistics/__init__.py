"""Verdicts on run folders: whether an arm is at most a margin worse than the baseline, and how sure that is.

    verdicts = compare([read_run(folder)], margin=3.0)
    print(verdict_table(verdicts))

`intervals`, `bootstrap`, `noninferiority` · `pairs`, `runs`, `summary` · `words`, `tables`.
"""

from gr00t.eval.statistics.runs import Run, read_run
from gr00t.eval.statistics.summary import Verdicts, compare
from gr00t.eval.statistics.tables import verdict_table

__all__ = ["Run", "Verdicts", "compare", "read_run", "verdict_table"]
