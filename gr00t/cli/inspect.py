"""Say what is in a folder, a set of demonstrations or a checkpoint, and whether anything is wrong with it.

    gr00t-inspect FOLDER
    gr00t-inspect FOLDER --json

Of a data set: what GR00T N1.5 would read of it, and everything that keeps it from being trained on; with
--output also pictures. Of a checkpoint: layers, bits, bytes, settings, versions and hashes.

The status is 0 where nothing is wrong, 1 where something is, 2 where the command line is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from gr00t.cli.errors import UsageError
from gr00t.cli.inspection.checkpoint import InspectCheckpointArguments, inspect_checkpoint
from gr00t.cli.inspection.dataset import InspectDatasetArguments, inspect_dataset
from gr00t.cli.running import run_command


@dataclasses.dataclass(frozen=True)
class InspectArguments:
    """What to look at."""

    folder: tyro.conf.Positional[Path]
    """Folder of a data set, in LeRobot's v2 or v3 layout, or of a checkpoint."""
    json: bool = False
    """Print JSON instead of text."""
    data_config: str | None = None
    """Of a data set: a registered data configuration, or "module:Class", that is to be used with it."""
    output: Path | None = None
    """Of a data set: folder for the pictures."""
    verify: bool = True
    """Of a checkpoint: read all of a quantized one and check its hashes."""


def run(arguments: InspectArguments) -> int:
    """Look at the folder as what it is; return the exit status.

    Raises:
        UsageError: a flag is not for such a folder. Errors of what looks at it pass through.
    """
    if is_dataset(arguments.folder):
        if not arguments.verify:
            raise UsageError(
                f"--no-verify is for a quantized checkpoint, and {arguments.folder} is a data set"
            )
        return inspect_dataset(
            InspectDatasetArguments(
                arguments.folder, arguments.data_config, arguments.output, json=arguments.json
            )
        )
    for flag, value in {"--data-config": arguments.data_config, "--output": arguments.output}.items():
        if value is not None:
            raise UsageError(f"{flag} is for a data set, and {arguments.folder} has no folder meta")
    return inspect_checkpoint(
        InspectCheckpointArguments(arguments.folder, json=arguments.json, verify=arguments.verify)
    )


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a data set, complete or not: all layouts have their descriptions in `meta`.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected that of a data set or of a checkpoint")
    return (folder / "meta").is_dir()


def main() -> int:
    """Run as a program: status 0 where nothing is wrong."""
    return run_command(InspectArguments, run, __doc__, logs=False)


if __name__ == "__main__":
    raise SystemExit(main())
