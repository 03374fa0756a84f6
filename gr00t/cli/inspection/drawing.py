"""The pictures of a data set, written to a folder."""

from __future__ import annotations

from pathlib import Path

from gr00t.cli.inspection.contact_sheet import contact_sheet
from gr00t.cli.inspection.findings import Findings
from gr00t.cli.inspection.statistics_plot import statistics_plot

SHEET, STATISTICS = "contact_sheet.png", "statistics.png"


def draw(found: Findings, folder: Path) -> list[Path]:
    """Draw what can be read; return the files. Frames that cannot be decoded become faults.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if found.readable is not None and found.told.get("cameras"):
        files.append(folder / SHEET)
        contact_sheet(found.readable, found.told["cameras"], found.faults).save(files[-1])
    if found.readable is not None and found.dimensions:
        files.append(folder / STATISTICS)
        statistics_plot(
            found.readable.numbers, found.dimensions, found.readable.layout.folder.name, files[-1]
        )
    return files
