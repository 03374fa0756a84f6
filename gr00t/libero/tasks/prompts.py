"""Tasks of our own in a scene of LIBERO's: another instruction and goal, everything else as it was."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gr00t.libero.tasks.suites import LiberoError, Task


@contextmanager
def problem_file(task: Task) -> Iterator[Path]:
    """The file with the BDDL problem of any task; LIBERO reads it while an environment is made.

    Raises:
        LiberoError: see `description`.
    """
    if not task.prompted:
        yield task.bddl
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / task.bddl.name
        path.write_text(description(task), encoding="utf-8")
        yield path


def description(task: Task) -> str:
    """The BDDL problem of a task that puts an object into the basket, with `task.prompted` as that object.

    Raises:
        LiberoError: the problem is of another kind, or has no such object.
    """
    text = task.bddl.read_text(encoding="utf-8")
    new = f"{task.prompted}_1"
    target = re.search(r"\(In (\w+) basket_1_contain_region\)", text)
    if target is None or f"{new} - {task.prompted}" not in text:
        raise LiberoError(
            f"{task.bddl}: expected a problem that puts one of several objects, {new} too, into a basket"
        )
    for pattern, replacement in (
        (rf"\(In {target[1]} basket_1_contain_region\)", f"(In {new} basket_1_contain_region)"),
        (rf"(\(:obj_of_interest\s+){target[1]}\b", rf"\g<1>{new}"),
        (r"\(:language [^)]*\)", f"(:language {task.language})"),
    ):
        text, count = re.subn(pattern, replacement, text)
        if count != 1:
            raise LiberoError(f"{task.bddl}: expected {pattern} once, found it {count} times")
    return text
