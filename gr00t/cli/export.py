"""Quantize a checkpoint once and write it as a folder that any server loads as it is.

    GR00T_DUQUANT_CALIB_STEPS=0 python scripts/export_quantized.py CHECKPOINT OUT
    python scripts/export_quantized.py CHECKPOINT OUT --recipe recommended --packdir CALIBRATED
    python scripts/inference_service.py --server --model-path OUT

Settings are those of the GR00T_DUQUANT_* variables, or of a recipe. Static activation scales and smoothing
come from a PACKDIR that scripts/calibrate.py has filled for the same checkpoint, settings and --dtype.

The last line of the output is what is in OUT, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.cli.serving.scope import DOCUMENT, scoped
from gr00t.files.shipped import RECIPES
from gr00t.model.quantized_layers import DEFAULTS, log_scope
from gr00t.quantization.settings.environment import DuQuantConfig, to_environ, why_not_enabled
from gr00t.spelling import did_you_mean

if TYPE_CHECKING:
    from gr00t.eval.arms.recipes import Recipe
    from gr00t.quantization.report import DuQuantReport


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """What to export, how quantized, and where to."""

    checkpoint: tyro.conf.Positional[str]
    """Checkpoint folder or model hub id."""
    out: tyro.conf.Positional[Path]
    """Folder to write; it must not exist, or be empty."""
    recipe: str | None = None
    """Recipe of examples/Libero/recipes, or a .toml of your own, instead of the variables."""
    scope: str = DOCUMENT
    """document: the layers that variables or recipe say; wide: vision, connector, adapter and DiT attention,
    too, at 8 bits."""
    packdir: Path | None = None
    """Folder of calibrated packs, instead of GR00T_DUQUANT_PACKDIR."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of what is not quantized."""
    tokenizer: Path | None = None
    """Folder of a tokenizer that goes along, for a checkpoint that has none."""
    base: str | None = None
    """Checkpoint that CHECKPOINT, an adapter, was trained on, or that it, a policy of lerobot, began from."""


def config_of(arguments: ExportArguments, environ: Mapping[str, str]) -> DuQuantConfig:
    """Return the settings to export by: those of the recipe and no others, if one is given.

    Raises:
        UsageError, RecipeError, DuQuantConfigError: there is nothing to export, or it cannot be.
    """
    recipe = None if arguments.recipe is None else find_recipe(arguments.recipe)
    if recipe is not None:
        environ = to_environ(recipe.settings, environ)
    environ = scoped(environ, arguments.scope)
    config = DuQuantConfig.from_environ(environ, DEFAULTS)
    if config is None:
        raise UsageError(f"nothing to export, DuQuant is not enabled: {why_not_enabled(environ)}")
    if arguments.packdir is not None:
        config = dataclasses.replace(config, pack_dir=arguments.packdir)
    if config.dry_run:
        raise UsageError("GR00T_DUQUANT_DRYRUN=1 asks for a list of layers; unset it to export")
    if config.pack_dir is None and (config.is_static or (recipe is not None and recipe.calibrate)):
        raise UsageError(
            "static activation scales and smoothing come from recorded inputs: run scripts/calibrate.py "
            "with these settings and give its --packdir; or set GR00T_DUQUANT_CALIB_STEPS=0"
        )
    if config.pack_dir is not None and not config.pack_dir.is_dir():
        raise UsageError(f"PACKDIR {config.pack_dir}: no such folder")
    return config


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name or its file.

    Raises:
        UsageError: there is none of that name.
        RecipeError: it cannot be read.
    """
    from gr00t.eval.arms.recipes import find_recipes, load_recipe

    if name.endswith(".toml"):
        return load_recipe(Path(name).expanduser())
    known = find_recipes(RECIPES)
    if name not in known:
        raise UsageError(f"--recipe {name}: {did_you_mean(name, known)}; or the path of a .toml")
    return load_recipe(known[name])


def export(arguments: ExportArguments, environ: Mapping[str, str]) -> dict[str, Any]:
    """Load, quantize and write; return what is in the folder.

    Raises:
        UsageError and ValueErrors with messages for people.
        OSError: the folder is there already, or cannot be written.
    """
    config = config_of(arguments, environ)
    # After the checks: importing torch and transformers takes seconds.
    import torch

    from gr00t.cli.inspection.checkpoint_contents import read_contents
    from gr00t.model.artefact import check_absent, export_artefact
    from gr00t.model.checkpoint.folder import module_aliases
    from gr00t.model.checkpoint.source import served_config
    from gr00t.model.checkpoints import QuantizedCheckpoint, open_checkpoint
    from gr00t.model.gr00t_n1 import GR00T_N1_5
    from gr00t.quantization.configured import quantize_as_configured

    check_absent(arguments.out)
    checkpoint = open_checkpoint(arguments.checkpoint, arguments.base)
    source = checkpoint.source
    served_config(source.config, source.folder)
    if isinstance(checkpoint, QuantizedCheckpoint):
        raise UsageError(
            f"{source.weights} is exported already; start from the checkpoint that it was exported from"
        )
    model = GR00T_N1_5.from_source(source, getattr(torch, arguments.dtype))
    report = quantize_as_configured(model, config, environ, module_aliases(model))
    log_scope(report.bits, config)
    recipe = None if arguments.recipe is None else find_recipe(arguments.recipe)
    if (recipe is not None and recipe.calibrate) or report.calibration_sha256 or report.informed:
        check_calibrated(report)
    export_artefact(
        model,
        report,
        source,
        arguments.out,
        checkpoint=arguments.checkpoint,
        tokenizer=arguments.tokenizer,
    )
    return read_contents(arguments.out, verify=False)


def check_calibrated(report: DuQuantReport) -> None:
    """Check that every layer is what it is to be by recorded inputs: an export lasts.

    Raises:
        UsageError: layers were quantized without statistics, or rounded to nearest instead of with feedback.
    """
    from gr00t.quantization.settings.options import Rounding

    specs = {name: layer.spec for name, layer in report.layers.items() if layer.spec.bits != "W16 A16"}
    blind = [name for name, spec in specs.items() if not spec.informed]
    if blind:
        raise UsageError(
            f"{len(blind)} of {len(specs)} layers, as {blind[0]}, lack statistics of recorded inputs: "
            f"PACKDIR {report.config.pack_dir} has none for these weights, or damaged packs, as said "
            "above then; run scripts/calibrate.py with these settings"
        )
    if report.config.rounding is not Rounding.FEEDBACK:
        return
    nearest = [
        name for name, spec in specs.items() if spec.weight is not None and spec.rounding is Rounding.NEAREST
    ]
    if nearest:
        raise UsageError(
            f"{len(nearest)} of {len(specs)} layers, as {nearest[0]}, are to be rounded with feedback: "
            f"PACKDIR {report.config.pack_dir} has no rows of their inputs that can be read; bring its "
            "folder inputs back, run scripts/calibrate.py with these settings, or set ROUNDING=nearest"
        )


def run(arguments: ExportArguments) -> None:
    """Export, and say what there is."""
    from gr00t.cli.inspection.checkpoint_contents import as_text

    found = export(arguments, os.environ)
    print(as_text(found))
    print(json.dumps(found))


def main() -> int:
    """Run as a program: status 0 when the folder is there, 2 for wrong flags, 1 for everything else."""
    return run_command(ExportArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
