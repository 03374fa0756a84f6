"""Quantized layers that were exported: written once, and put into a model before it has any weight.

The model is built on `meta`; `place_layers` puts an empty quantized layer in place of every linear that the
manifest names, whoever loads weights fills them like all others, from mapped files, and `settle` looks at
what arrived. No float copy of a packed weight exists at any time.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from safetensors.torch import save
from torch import Tensor, nn

from gr00t.quantization.apply import DuQuantDryRun, put_in_place
from gr00t.quantization.config import DuQuantConfig
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.manifest import FILE, Manifest
from gr00t.quantization.profile import StageProfiler
from gr00t.quantization.report import DuQuantReport
from gr00t.quantization.seals import ArtefactError, write_with_metadata
from gr00t.quantization.selection import Verdict

logger = logging.getLogger(__name__)


def check_exportable(report: DuQuantReport) -> None:
    """Refuse a model whose quantization is not over, or never was.

    Raises:
        ArtefactError: saying which layers, and what would help.
    """
    waiting = [name for name, layer in report.layers.items() if layer.is_calibrating]
    if waiting:
        raise ArtefactError(
            f"{len(waiting)} of {len(report.layers)} layers have no static activation scales yet "
            f"({waiting[0]}, ...): run scripts/calibrate.py with these settings and the same --dtype, then "
            "export with its PACKDIR; or set CALIB_STEPS=0 for per-token scales, which need none"
        )
    if all(layer.spec.bits == "W16 A16" for layer in report.layers.values()):
        raise ArtefactError("weights and activations all stay in floating point: nothing is quantized")


def write_layers(
    folder: Path, tensors: Mapping[str, Tensor], manifest_for: Callable[[str], Manifest]
) -> None:
    """Write the file of the quantized layers.

    Args:
        folder: of the artefact.
        tensors: of all layers, by the names that whoever loads weights knows them by.
        manifest_for: makes the manifest from the hash of the tensors.
    """
    saved = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_with_metadata(saved, lambda digest: manifest_for(digest).to_metadata(), folder / FILE)


def place_layers(model: nn.Module, manifest: Manifest, config: DuQuantConfig) -> DuQuantReport:
    """Replace the linears of `model`, which is on `meta`, by empty quantized layers.

    Args:
        model: built by the artefact's own configuration, in the dtype that its biases are to have.
        manifest: what its layers are.
        config: the settings, `Manifest.config`.

    Raises:
        ArtefactError: the model has no such linear.
    """
    targets = []
    for name, spec in manifest.layers.items():
        linear = _find_linear(model, name)
        shape = (spec.out_features, spec.in_features)
        if linear is None or tuple(linear.weight.shape) != shape:
            found = "nothing" if linear is None else f"a Linear {tuple(linear.weight.shape)}"
            raise ArtefactError(f"the artefact has a layer {name} {shape}, the architecture {found}")
        spec = dataclasses.replace(spec, execution=config.execution)
        targets.append(Verdict(name, None, linear, spec, "in the artefact"))
    layers = {}
    for target in targets:
        assert target.spec is not None
        layer = DuQuantLinear(target.linear, target.spec)
        layer.keep_unpacked = config.precache_weights
        layer.refuse_nonfinite = config.debug
        layers[target.name] = layer
    put_in_place(model, targets, layers)
    return DuQuantReport(
        config=config,
        layers=layers,
        linear_bytes_before=manifest.linear_bytes_before,
        model_bytes_before=manifest.model_bytes_before,
        model=model,
        artefact={
            "checkpoint": manifest.checkpoint,
            "dtype": manifest.dtype,
            "tensors_sha256": manifest.tensors_sha256,
            "versions": dict(manifest.versions),
            "calibration": None if manifest.calibration is None else dict(manifest.calibration),
        },
    )


def list_layers(manifest: Manifest) -> NoReturn:
    """Log what a dry-run lists: the layers of the artefact, whatever a selection would have taken.

    Raises:
        DuQuantDryRun: always.
    """
    logger.info("[GR00T-DUQUANT] Matched Linear layers: %d, all of the artefact", len(manifest.layers))
    for name, spec in manifest.layers.items():
        logger.info(
            "[GR00T-DUQUANT][DRYRUN] %s: Linear(%d->%d) %s", name, spec.in_features, spec.out_features, spec
        )
    logger.info("[GR00T-DUQUANT] Dry-run total layers listed: %d", len(manifest.layers))
    raise DuQuantDryRun


def settle(report: DuQuantReport) -> None:
    """Check and log what the layers are, now that their weights are there.

    Raises:
        ArtefactError: static activation scales are missing.
    """
    waiting = [name for name, layer in report.layers.items() if layer.is_calibrating]
    if waiting:
        raise ArtefactError(f"the artefact has no activation scales for {', '.join(waiting[:3])}")
    logger.info("%s", report.memory_line())
    logger.info("%s", report.kernel_line())
    if report.config.profile:
        StageProfiler(report.layers, synchronize=report.config.profile_sync).start()


def _find_linear(model: nn.Module, name: str) -> nn.Linear | None:
    parent, _, child = name.rpartition(".")
    try:
        found = getattr(model.get_submodule(parent), child, None)
    except AttributeError:
        return None
    return found if type(found) is nn.Linear else None
