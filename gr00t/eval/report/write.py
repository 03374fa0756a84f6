"""Write the three forms of a report into a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from gr00t.eval.margin import DEFAULT_MARGIN
from gr00t.eval.report.markdown import render_markdown
from gr00t.eval.statistics.runs import read_run
from gr00t.eval.statistics.summary import Verdicts, compare
from gr00t.files.atomic import replace_file
from gr00t.files.output_folder import writing


def write_report(folder: Path, *, baseline: str | None = None, margin: float = DEFAULT_MARGIN) -> Verdicts:
    """Write `report.md`, `report.json` and `report.html` of a run, finished or not.

    Args:
        folder: A run folder.
        baseline: Name of an arm; by default `bf16`, else the first arm that is no control.
        margin: Of non-inferiority, in percentage points.

    Returns:
        What the reports say; `verdict_table` shows it.

    Raises:
        LiberoError: if the folder cannot be read, or has no episodes yet.
        OutputError: if it cannot be written.
    """
    # Drawing takes a second to import, which whoever only writes a text should not wait for.
    from gr00t.eval.report.page import render_page

    run = read_run(folder)
    verdicts = compare([run], baseline=baseline, margin=margin)
    texts = {
        "report.md": render_markdown(verdicts, [run]),
        "report.html": render_page(verdicts, [run], folder / "report.html"),
        "report.json": json.dumps(verdicts.to_dict(), indent=2) + "\n",
    }
    with writing(folder, "--output"):
        for name, text in texts.items():
            replace_file(folder / name, text)
    return verdicts
