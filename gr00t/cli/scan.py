"""List every Linear layer of a GR00T N1.5, and what DuQuant would do with it; no weight is read.

Of what scripts/export_quantized.py wrote: what was done with it.

python scripts/scan_linear_layers.py                      # full size, the settings of GR00T_DUQUANT_*
python scripts/scan_linear_layers.py --model-path FOLDER_OR_HUB_ID --json
python scripts/scan_linear_layers.py --dry-run            # the log lines of GR00T_DUQUANT_DRYRUN=1
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from gr00t.console import log_to_stderr
from gr00t.quantization.checkpoint.manifest import read_manifest
from gr00t.quantization.settings.environment import DuQuantConfig


@dataclasses.dataclass(frozen=True)
class Arguments:
    """List every Linear layer of a GR00T N1.5, and what DuQuant would do with it; no weight is read."""

    model_path: str | None = None
    """Checkpoint folder or hub id; without one, the built-in full-size architecture."""
    json: bool = False
    """Print JSON instead of a table."""
    dry_run: Annotated[bool, tyro.conf.arg(aliases=["--dryrun"])] = False
    """List as GR00T_DUQUANT_DRYRUN=1 does when a server starts."""


def run(arguments: Arguments) -> None:
    """Print the list. Raises ValueErrors with messages for people."""
    manifest = read_manifest(Path(arguments.model_path)) if arguments.model_path is not None else None
    # Bad settings are told before anything is built.
    if manifest is not None:
        settings: DuQuantConfig | None = manifest.config(os.environ)
    else:
        settings = DuQuantConfig.from_environ(os.environ)
    from gr00t.model.structure import build_structure

    model, aliases = build_structure(arguments.model_path)
    from gr00t.quantization import enable_duquant_if_configured, judge_layers, select_targets
    from gr00t.quantization.checkpoint.artefact import list_layers as list_artefact

    if arguments.dry_run and manifest is not None:
        list_artefact(manifest)
    if arguments.dry_run:
        enable_duquant_if_configured(model, {**os.environ, "GR00T_DUQUANT_DRYRUN": "1"}, aliases)
        return  # only where GR00T_DUQUANT_ENABLE=0: a dry-run ends the program
    settings = settings or DuQuantConfig()
    select_targets(model, settings, aliases)  # refuses what a server would refuse
    verdicts = judge_layers(model, settings, aliases)
    rows = [
        {
            "name": verdict.name,
            "checkpoint_name": verdict.alias,
            "in_features": verdict.linear.in_features,
            "out_features": verdict.linear.out_features,
            "bias": verdict.linear.bias is not None,
            "quantized": verdict.spec is not None,
            "settings": str(verdict.spec or ""),
            "reason": verdict.reason,
        }
        for verdict in verdicts
    ]
    quantized = sum(row["quantized"] for row in rows)
    if arguments.json:
        print(json.dumps({"linear_layers": len(rows), "quantized": quantized, "layers": rows}, indent=1))
        return
    width = max(len(verdict.name) for verdict in verdicts)
    for row in rows:
        shape = f"{row['in_features']}->{row['out_features']}{' +bias' if row['bias'] else ''}"
        print(f"{row['name']:<{width}}  {shape:<17}  {row['settings'] or 'float: ' + row['reason']}")
    print(f"{len(rows)} Linear layers, {quantized} quantized, {len(rows) - quantized} in floating point")


def main() -> None:
    """Run as a program: status 0 when the layers are listed, 1 with one line of error."""
    log_to_stderr()
    try:
        run(tyro.cli(Arguments))
    except ValueError as error:
        sys.exit(f"error: {error}")
