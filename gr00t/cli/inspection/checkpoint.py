"""Say what is in a checkpoint folder, NVIDIA's or exported: layers, bits, bytes, settings, versions, hashes.

python scripts/inspect_checkpoint.py FOLDER
python scripts/inspect_checkpoint.py FOLDER --json --no-verify

Of a float checkpoint only headers are read. Of a quantized one every byte is read, too, to check the hashes;
--no-verify leaves that out. The status is 1 where something is damaged.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import tyro

from gr00t.cli.inspection.checkpoint_contents import as_text, read_contents


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to look at."""

    folder: tyro.conf.Positional[Path]
    """Checkpoint folder."""
    json: bool = False
    """Print JSON instead of text."""
    verify: bool = True
    """Read all of a quantized checkpoint and check its hashes."""


def main() -> None:
    """Run as a program: status 0 where nothing is wrong."""
    arguments = tyro.cli(Arguments, description=__doc__)
    try:
        found = read_contents(arguments.folder, verify=arguments.verify)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found, indent=1) if arguments.json else as_text(found))
    sys.exit(1 if str(found.get("hashes", "")).startswith("DAMAGED") else 0)
