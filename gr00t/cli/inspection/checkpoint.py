"""Say what is in a checkpoint folder, NVIDIA's or exported: layers, bits, bytes, settings, versions, hashes.

    python scripts/inspect_checkpoint.py FOLDER
    python scripts/inspect_checkpoint.py FOLDER --json --no-verify

Of a float checkpoint only headers are read. Of a quantized one every byte is read, too, to check the hashes;
--no-verify leaves that out. The status is 1 where something is damaged.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import tyro

from gr00t.cli.running import run_command


@dataclasses.dataclass(frozen=True)
class InspectCheckpointArguments:
    """What to look at."""

    folder: tyro.conf.Positional[Path]
    """Checkpoint folder."""
    json: bool = False
    """Print JSON instead of text."""
    verify: bool = True
    """Read all of a quantized checkpoint and check its hashes."""


def inspect_checkpoint(arguments: InspectCheckpointArguments) -> int:
    """Say what is in a checkpoint; return the exit status."""
    from gr00t.cli.inspection.checkpoint_contents import as_text, read_contents

    found = read_contents(arguments.folder, verify=arguments.verify)
    print(json.dumps(found, indent=1) if arguments.json else as_text(found))
    return 1 if str(found.get("hashes", "")).startswith("DAMAGED") else 0


def main() -> int:
    """Run as a program: status 0 where nothing is wrong."""
    return run_command(InspectCheckpointArguments, inspect_checkpoint, __doc__, logs=False)
