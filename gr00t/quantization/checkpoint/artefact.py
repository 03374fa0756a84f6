"""Quantized layers that were exported: written once, and put into a model before it has any weight.

The model is built on `meta`; `place_layers` puts an empty quantized layer in place of every linear that the
manifest names, whoever loads weights fills them like all others, from what `read_checked` has read and
checked, and `settle` looks at the values that arrived. No float copy of a packed weight exists at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from gr00t.files.hashing import hash_file
from gr00t.files.safetensors_header import Header
from gr00t.quantization.calibration.record import record_sha256
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.quantization.checkpoint.manifest import Manifest
from gr00t.quantization.checkpoint.tensor_file import TensorPart, read_tensors
from gr00t.quantization.duquant_layers import DuQuantLinear
from gr00t.quantization.numerics.soundness import UnsoundError, check_state
from gr00t.quantization.profile import StageProfiler
from gr00t.quantization.replacing import put_in_place
from gr00t.quantization.report import DuQuantReport
from gr00t.quantization.settings.environment import DuQuantConfig
from gr00t.quantization.settings.options import Rounding, RowRotation
from gr00t.quantization.settings.selection import LayerPlan
from gr00t.quantization.settings.spec import LinearSpec

logger = logging.getLogger(__name__)


def check_exportable(report: DuQuantReport) -> None:
    """Refuse a model whose quantization is not over, or never was, or whose layers are damaged.

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
    check_sound(report.layers)


def check_sound(layers: Mapping[str, DuQuantLinear]) -> None:
    """Refuse layers whose numbers no quantization yields (`soundness.check_state`).

    Raises:
        ArtefactError: naming the layer and the tensor.
    """
    for name, layer in layers.items():
        try:
            check_state(layer.packed_state(), layer.spec)
        except UnsoundError as error:
            raise ArtefactError(f"{name}: damaged: {error}") from None


def read_checked(
    folder: Path, manifest: Manifest, parts: Mapping[str, TensorPart] | None = None
) -> tuple[int, dict[Path, dict[str, Tensor]]]:
    """Check every file of an artefact, and keep what was read of its weight files.

    Each file is read once, so what was hashed is what is used: whatever happens to the files later, or
    happened between two looks at them, does not reach the model.

    Args:
        folder: of the artefact.
        manifest: its manifest.
        parts: by name of a tensor, who sees it pass by instead of its being kept.

    Returns:
        How many bytes all files have, and the tensors of every weight file by name, by its path.

    Raises:
        ArtefactError: as `check_files`.
    """
    kept: dict[Path, dict[str, Tensor]] = {}

    def keep(path: Path) -> str:
        if path.suffix != ".safetensors":
            return hash_file(path)
        digests = []

        def begin_hash(header: Header) -> hashlib._Hash:
            digests.append(manifest.begin_hash(path, header))
            return digests[0]

        kept[path] = read_tensors(path, begin_hash, parts)[1]
        return str(digests[0].hexdigest())

    return manifest.check_files(folder, keep), kept


def place_layers(
    model: nn.Module, manifest: Manifest, config: DuQuantConfig, aliases: Mapping[str, str] | None = None
) -> DuQuantReport:
    """Replace the linears of `model`, which is on `meta`, by empty quantized layers.

    Args:
        model: built by the artefact's own configuration, in the dtype that its biases are to have.
        manifest: what its layers are.
        config: the settings, `Manifest.config`.
        aliases: other names of layers, by module name (`quantize.plan`).

    Raises:
        ArtefactError: the model has no such linear, or the settings make another layer of it.
    """
    targets = []
    for name, spec in manifest.layers.items():
        linear = _find_linear(model, name)
        shape = (spec.out_features, spec.in_features)
        if linear is None or tuple(linear.weight.shape) != shape:
            found = "nothing" if linear is None else f"a Linear {tuple(linear.weight.shape)}"
            raise ArtefactError(f"the artefact has a layer {name} {shape}, the architecture {found}")
        names = [known for known in (name, (aliases or {}).get(name)) if known]
        _check_agreement(name, spec, config.scheme.spec_for(linear.in_features, linear.out_features, *names))
        targets.append(LayerPlan(name, None, linear, spec, "in the artefact"))
    layers = {}
    for target in targets:
        assert target.spec is not None
        layer = DuQuantLinear(target.linear, target.spec)
        layer.run_as(config.runtime)
        layers[target.name] = layer
    put_in_place(model, targets, layers)
    return DuQuantReport(
        config=config,
        layers=layers,
        linear_bytes_before=manifest.linear_bytes_before,
        model_bytes_before=manifest.model_bytes_before,
        model=model,
        layers_sha256=manifest.layers_sha256,
        calibration_sha256=record_sha256(manifest.calibration),
        artefact={
            "checkpoint": manifest.checkpoint,
            "dtype": manifest.dtype,
            "tensors_sha256": manifest.layers_sha256,
            "versions": dict(manifest.versions),
            "calibration": None if manifest.calibration is None else dict(manifest.calibration),
        },
    )


def list_exported(manifest: Manifest) -> Mapping[str, LinearSpec]:
    """Log what a dry-run lists, and return it: the layers of the artefact, whatever a selection takes."""
    logger.info("[GR00T-DUQUANT] Matched Linear layers: %d, all of the artefact", len(manifest.layers))
    for name, spec in manifest.layers.items():
        logger.info(
            "[GR00T-DUQUANT][DRYRUN] %s: Linear(%d->%d) %s", name, spec.in_features, spec.out_features, spec
        )
    logger.info("[GR00T-DUQUANT] Dry-run total layers listed: %d", len(manifest.layers))
    return manifest.layers


def settle(report: DuQuantReport) -> None:
    """Check and log what the layers are, now that their weights are there.

    Raises:
        ArtefactError: values cannot be a layer's, or static activation scales are missing.
    """
    check_sound(report.layers)
    waiting = [name for name, layer in report.layers.items() if layer.is_calibrating]
    if waiting:
        raise ArtefactError(f"the artefact has no activation scales for {', '.join(waiting[:3])}")
    logger.info("%s", report.memory_line())
    logger.info("%s", report.kernel_line())
    if report.config.profile:
        StageProfiler(report.layers, synchronize=report.config.profile_sync).start()


def _check_agreement(name: str, spec: LinearSpec, wanted: LinearSpec) -> None:
    """Hold the specification of a layer against what the settings of the artefact make of such a layer."""
    decided = {"informed"}  # by what was recorded
    if wanted.rounding is Rounding.FEEDBACK:
        decided |= {"rounding"}
    if wanted.row_rotation is RowRotation.PROPAGATE:
        decided |= {"row_rotation", "absorbs"}  # by its neighbours
        if spec.row_rotation is RowRotation.NONE:
            raise ArtefactError(f"{name}: its output is not rotated, which contradicts ROW_ROT=propagate")
    for field in dataclasses.fields(LinearSpec):
        found, other = getattr(spec, field.name), getattr(wanted, field.name)
        if field.name not in decided and found != other:
            raise ArtefactError(
                f"{name}: the artefact contradicts itself: the layer has {field.name}={found}, its settings "
                f"say {other}"
            )


def _find_linear(model: nn.Module, name: str) -> nn.Linear | None:
    parent, _, child = name.rpartition(".")
    try:
        found = getattr(model.get_submodule(parent), child, None)
    except AttributeError:
        return None
    return found if type(found) is nn.Linear else None
