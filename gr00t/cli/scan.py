"""List every Linear layer of a GR00T N1.5, and what DuQuant would do with it; no weight is read.

Of what scripts/export_quantized.py wrote: what was done with it.

    python scripts/scan_linear_layers.py                      # full size, the settings of GR00T_DUQUANT_*
    python scripts/scan_linear_layers.py --model-path FOLDER_OR_HUB_ID --json
    python scripts/scan_linear_layers.py --dry-run            # the log lines of GR00T_DUQUANT_DRYRUN=1
    python scripts/scan_linear_layers.py --scope wide         # vision, adapter and DiT attention, too
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from gr00t.cli.running import run_command
from gr00t.cli.serving.scope import DOCUMENT, scoped
from gr00t.model.checkpoints import find_manifest, scan_layers
from gr00t.model.quantized_layers import DEFAULTS, log_scope
from gr00t.processes.collector import collector_paused
from gr00t.quantization.settings.environment import DuQuantConfig, settings_in, to_environ

if TYPE_CHECKING:
    from gr00t.quantization.settings.selection import LayerPlan
    from gr00t.quantization.settings.spec import LinearSpec


@dataclasses.dataclass(frozen=True)
class ScanArguments:
    """List every Linear layer of a GR00T N1.5, and what DuQuant would do with it; no weight is read."""

    model_path: str | None = None
    """Checkpoint folder or hub id; without one, the built-in full-size architecture."""
    json: bool = False
    """Print JSON instead of a table."""
    scope: str = DOCUMENT
    """document: the layers that the variables say, or by default the document's; wide: vision, connector,
    adapter and DiT attention, too, at 8 bits."""
    dry_run: Annotated[bool, tyro.conf.arg(aliases=["--dryrun"])] = False
    """List as GR00T_DUQUANT_DRYRUN=1 does when a server starts."""


def run(arguments: ScanArguments) -> None:
    """Print the list. Raises ValueErrors with messages for people."""
    # Nearly all of the time is the import of PyTorch and transformers.
    with collector_paused():
        _list(arguments)


def _list(arguments: ScanArguments) -> None:
    environ = scoped(os.environ, arguments.scope)
    if arguments.dry_run:
        scan_layers(arguments.model_path, to_environ({**settings_in(environ), "DRYRUN": "1"}, environ))
        return
    manifest = find_manifest(arguments.model_path)
    # Bad settings are told before anything is built.
    if manifest is not None:
        config = manifest.config(environ)
    else:
        config = DuQuantConfig.from_environ(environ, DEFAULTS) or DEFAULTS
    from gr00t.model.meta_model import build_structure
    from gr00t.quantization.quantize import decided
    from gr00t.quantization.settings.selection import check_plans, plan_layers

    model, aliases = build_structure(arguments.model_path)
    plans = plan_layers(model, config.scheme, config.layer_filter, aliases)
    if manifest is not None:
        plans = [as_exported(plan, manifest.layers) for plan in plans]
    else:
        # Refuses what a server would refuse.
        check_plans(plans, config.scheme, config.layer_filter, debug=config.debug)
        plans = decided(model, plans)
    log_scope({plan.name: plan.spec.bits for plan in plans if plan.spec is not None}, config)
    rows: list[dict[str, Any]] = [
        {
            "name": plan.name,
            "checkpoint_name": plan.alias,
            "in_features": plan.linear.in_features,
            "out_features": plan.linear.out_features,
            "bias": plan.linear.bias is not None,
            "quantized": plan.spec is not None,
            "settings": str(plan.spec or ""),
            "reason": plan.reason,
        }
        for plan in plans
    ]
    quantized = sum(plan.spec is not None for plan in plans)
    if arguments.json:
        print(json.dumps({"linear_layers": len(rows), "quantized": quantized, "layers": rows}, indent=1))
        return
    width = max(len(plan.name) for plan in plans)
    for row in rows:
        shape = f"{row['in_features']}->{row['out_features']}{' +bias' if row['bias'] else ''}"
        print(f"{row['name']:<{width}}  {shape:<17}  {row['settings'] or 'float: ' + row['reason']}")
    print(f"{len(rows)} Linear layers, {quantized} quantized, {len(rows) - quantized} in floating point")


def as_exported(plan: LayerPlan, layers: Mapping[str, LinearSpec]) -> LayerPlan:
    """Return the plan of a layer with what an export has made of it, whatever its settings would today."""
    spec = layers.get(plan.name)
    reason = plan.reason if (plan.spec is None) == (spec is None) else "as exported"
    return dataclasses.replace(plan, spec=spec, reason=reason)


def main() -> int:
    """Run as a program: status 0 when the layers are listed, 1 with one line of error."""
    return run_command(ScanArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
