"""Compare the arms of one or more evaluations: success, paired differences, and a verdict on each arm.

    python scripts/compare.py runs/spatial
    python scripts/compare.py runs/spatial runs/object runs/goal --html report.html

Every arm is compared with the baseline (the arm named bf16, else the first that is no control) over the
episodes that both have played, and called non-inferior when it is shown to be at most --margin percentage
points worse. A run may still be going on. Several folders make one table if they were played alike: the
same assets, rendering, placement and executed actions per query, in each suite the same limit of steps, and
by the same versions of MuJoCo, robosuite and LIBERO (--allow-mixed compares across versions, with a warning).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tyro

from gr00t.cli.checks.needed import check_installed
from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.eval.margin import DEFAULT_MARGIN
from gr00t.files.atomic import replace_file


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """Compare the arms of one or more evaluations."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, as scripts/evaluate.py writes them."""
    baseline: str | None = None
    """Arm that the others are compared with (default: bf16, else the first that is no control)."""
    margin: float = DEFAULT_MARGIN
    """Percentage points by which an arm may be worse and still counts as non-inferior."""
    allow_mixed: bool = False
    """Compare although different versions of MuJoCo, robosuite or LIBERO played: another one may settle and
    draw a task otherwise, so that differences are not those of the arms alone."""
    json: Path | None = None
    """Write all numbers to this file."""
    markdown: Path | None = None
    """Write the tables to this file."""
    html: Path | None = None
    """Write the whole report to this file: one page that needs nothing else."""


def run(arguments: CompareArguments) -> None:
    """Print the tables, and write what was asked for.

    Raises:
        UsageError: flags that make no sense, or a package is missing.
        LiberoError: the folders cannot be compared.
    """
    if not arguments.folders:
        raise UsageError("no folder given; expected those that scripts/evaluate.py wrote")
    if not 0 < arguments.margin < 100:
        raise UsageError(f"--margin {arguments.margin:g}: expected points above 0 and below 100")
    check_installed(["scipy", *(("matplotlib", "jinja2") if arguments.html else ())], "libero")
    from gr00t.eval.report.markdown import render_markdown
    from gr00t.eval.statistics import compare, read_run, verdict_table

    runs = [read_run(folder) for folder in arguments.folders]
    verdicts = compare(
        runs, baseline=arguments.baseline, margin=arguments.margin, allow_mixed=arguments.allow_mixed
    )
    print(verdict_table(verdicts))
    if arguments.json:
        replace_file(arguments.json, json.dumps(verdicts.to_dict(), indent=2) + "\n")
    if arguments.markdown:
        replace_file(arguments.markdown, render_markdown(verdicts, runs))
    if arguments.html:
        # Drawing takes a second to import.
        from gr00t.eval.report.page import render_page

        replace_file(arguments.html, render_page(verdicts, runs, arguments.html))


def main() -> int:
    """Run as a program: 0 where the folders could be compared, 2 for wrong flags, 1 for everything else."""
    return run_command(CompareArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
