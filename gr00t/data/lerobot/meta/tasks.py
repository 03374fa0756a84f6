"""The instructions of a data set, by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gr00t.data.lerobot.meta.faults import Fault
from gr00t.data.lerobot.meta.meta_files import read_lines, whole_number
from gr00t.data.lerobot.meta.parquet_files import open_parquet, read_columns

TASKS = Path("meta/tasks.jsonl")
TASKS_V3 = Path("meta/tasks.parquet")


def read_tasks(folder: Path, version: int, faults: list[Fault]) -> dict[int, str]:
    """The texts of meta/tasks.jsonl, or of meta/tasks.parquet in the v3 layout."""
    path = folder / (TASKS if version == 2 else TASKS_V3)
    texts: dict[int, str] = {}
    for place, given, text in _entries(path, folder, version, faults):
        number = whole_number(given)
        if number is None or not isinstance(text, str):
            what = f"expected a number task_index and a text task, got {given!r} and {text!r}"
            faults.append(Fault(path, what, place))
        elif texts.setdefault(number, text) != text:
            faults.append(Fault(path, f"task {number} is both {texts[number]!r} and {text!r}", place))
    return texts


def _entries(path: Path, folder: Path, version: int, faults: list[Fault]) -> Iterator[tuple[str, Any, Any]]:
    """Place, number and text of each line or row."""
    if version == 2:
        for number, line in read_lines(path, folder, faults):
            yield f"line {number}", line.get("task_index"), line.get("task")
        return
    file = open_parquet(path, folder, faults)
    if file is None:
        return
    # LeRobot writes a table of pandas whose index is the text; an index without a name gets one from pandas.
    others = [name for name in file.schema_arrow.names if name != "task_index"]
    text = "task" if "task" in others else next((name for name in others if name.startswith("__index_")), "")
    if not text or len(others) == len(file.schema_arrow.names):
        there = ", ".join(file.schema_arrow.names)
        faults.append(Fault(path, f"expected columns task_index and task, got {there}"))
        return
    columns = read_columns(file, path, ["task_index", text], faults)
    if columns is not None:
        rows = zip(columns["task_index"].to_pylist(), columns[text].to_pylist(), strict=True)
        for row, (number, task) in enumerate(rows):
            yield f"row {row}", number, task
