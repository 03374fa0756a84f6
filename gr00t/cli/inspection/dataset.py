"""Say what is in a set of demonstrations, what GR00T N1.5 would read of it, and everything that is wrong.

    python scripts/inspect_dataset.py FOLDER
    python scripts/inspect_dataset.py FOLDER --data-config so100 --output LOOK

With --output it also draws frames of every camera (contact_sheet.png) and the numbers of every state and
action (statistics.png). Rows are read and videos are listed; only the frames that are drawn are decoded.

The status is 0 where the set can be trained on, 1 where it has faults, 2 where the command line is wrong or
a package is missing.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tyro

from gr00t.cli.checks.needed import check_installed
from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.files.output_folder import OutputError, writing


@dataclasses.dataclass(frozen=True)
class InspectDatasetArguments:
    """What to look at."""

    folder: tyro.conf.Positional[Path]
    """Folder of the data set, in LeRobot's v2 or v3 layout."""
    data_config: str | None = None
    """A registered data configuration, or "module:Class" of your own, that is to be used with it."""
    output: Path | None = None
    """Folder for the pictures."""
    json: bool = False
    """Print JSON instead of text."""


def inspect_dataset(arguments: InspectDatasetArguments) -> int:
    """Say what is in a data set, and draw it; return the exit status.

    Raises:
        UsageError: a package is missing, or the data configuration or the folder for pictures cannot be used.
    """
    check_installed(("av", "pyarrow", "PIL", "matplotlib"), "train")
    from gr00t.cli.inspection.drawing import draw
    from gr00t.cli.inspection.findings import find
    from gr00t.cli.inspection.telling import as_text
    from gr00t.data.errors import TransformError
    from gr00t.experiment.data_config import DataConfigError

    try:
        found = find(arguments.folder, arguments.data_config)
        files: list[Path] = []
        if arguments.output is not None:
            with writing(arguments.output, "--output"):
                files = draw(found, arguments.output)
    except (DataConfigError, TransformError, OutputError) as error:
        raise UsageError(str(error)) from error
    if arguments.json:
        print(json.dumps(found.as_json(files), indent=1))
    else:
        print(as_text(found))
        print(*(f"drawn: {path}" for path in files), sep="\n", end="\n" if files else "")
    return 1 if found.faults else 0


def main() -> int:
    """Run as a program: status 0 where nothing is wrong."""
    # What the reader warns of stands among the remarks.
    return run_command(InspectDatasetArguments, inspect_dataset, __doc__, logs=False)
