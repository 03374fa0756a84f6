"""A quantized model as a checkpoint folder: written once, loaded as it is, without any settings.

    duquant.safetensors             the quantized layers, packed
    duquant.json                    what they are, and the hashes of all (`quantization.checkpoint.manifest`)
    model-00001-of-....safetensors  everything else, as in the checkpoint
    config.json, tokenizer, ...     as in the checkpoint

The model meets quantization here, in `checkpoints` and in `quantized_layers`; the network itself knows
nothing of it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from gr00t import __version__
from gr00t.files.atomic import atomic_write, unfinished
from gr00t.model.checkpoint.folder import (
    checkpoint_tensors,
    load_weights,
    module_aliases,
    names_of,
    write_index,
    write_weights,
)
from gr00t.model.checkpoint.folder_kind import ADAPTER_CONFIG
from gr00t.model.checkpoint.source import METADATA, Source, find_metadata, open_source
from gr00t.model.families import model_class
from gr00t.model.lerobot.processors import PIPELINES
from gr00t.model.lerobot.rules import RULES_FILE, read_rules
from gr00t.model.network.model import Gr00tModel
from gr00t.model.preprocessing.tokenizer import TOKENIZER_FILES
from gr00t.model.served_parts import place_parts, served_parts
from gr00t.quantization.calibration.record import read_record
from gr00t.quantization.checkpoint.artefact import (
    check_exportable,
    list_exported,
    place_layers,
    read_checked,
    settle,
)
from gr00t.quantization.checkpoint.checksums import checksum
from gr00t.quantization.checkpoint.manifest import FILE, Manifest, exported_settings
from gr00t.quantization.checkpoint.sidecar import SIDECAR
from gr00t.quantization.checkpoint.tensor_file import write_tensors
from gr00t.quantization.kernels.library import load as load_kernels
from gr00t.quantization.numerics.older_storage import PACKED
from gr00t.quantization.report import DuQuantReport
from gr00t.quantization.settings.environment import DuQuantDryRunError

logger = logging.getLogger(__name__)

# What goes along: metadata, tokenizer, licences. What describes weights is then written over.
_ALONG = ("*.json", "*.txt", "*.md", "*.model", "*.jinja", "LICENSE*", "NOTICE*", "experiment_cfg/*")


def load_artefact(
    source: Source,
    manifest: Manifest,
    torch_dtype: torch.dtype,
    environ: Mapping[str, str] | None = None,
    served_embodiment: int | None = None,
) -> tuple[Gr00tModel, DuQuantReport]:
    """Load an exported model: every file is read once, hashed, and used as it was hashed.

    Args:
        source: the artefact's folder and architecture.
        manifest: its manifest.
        torch_dtype: of what is not quantized.
        environ: may decide what `Manifest.config` lets it; kernels are compiled by its compiler, into its
            cache. None: the defaults, and only kernels that this process has loaded already.
        served_embodiment: the one that will be asked for: the model stays as it is, on the CPU, and holds of
            its tables what that needs (`gr00t.model.served_parts`). None: any, and all of them.

    Returns:
        The model on the CPU, and the report of its quantized layers.

    Raises:
        ArtefactError: the artefact is damaged, or contradicts itself.
        CheckpointError: its configuration and its weights do not fit together.
        DuQuantConfigError: `environ` asks for another quantization.
        DuQuantDryRunError: `environ` asks for a list of the layers, which is in the log then.
    """
    folder = source.folder
    config = manifest.config(environ or {})
    if config.dry_run:
        list_exported(manifest)
        raise DuQuantDryRunError(f"{folder}: DRYRUN=1 asks for a list of its layers, which is in the log")
    if environ is not None:
        load_kernels(environ)
    started = time.perf_counter()
    model = model_class(source.config).on_meta(source.config, torch_dtype)
    parts = {} if served_embodiment is None else served_parts(model, served_embodiment, manifest.layers)
    checked, tensors = read_checked(folder, manifest, parts)
    logger.info(
        "[GR00T-DUQUANT] Artefact %s: exported from %s; %d files, %s bytes, as exported (%.1f s)",
        folder,
        manifest.checkpoint,
        len(manifest.files),
        f"{checked:,}",
        time.perf_counter() - started,
    )
    dtype = str(torch_dtype).removeprefix("torch.")
    if dtype != manifest.dtype:
        logger.warning("[GR00T-DUQUANT] Artefact exported for %s, loaded in %s", manifest.dtype, dtype)
    report = place_layers(model, manifest, config, module_aliases(model))
    stored, table = tensors.get(folder / FILE, {}), names_of(model)
    for name, layer in report.layers.items():
        prefix = table.to_checkpoint(name)
        names = {buffer: f"{prefix}.{buffer}" for buffer in PACKED}
        layer.expect({buffer: stored[key] for buffer, key in names.items() if key in stored})
    load_weights(model, folder, tensors)
    place_parts(model, parts)
    settle(report)
    return model, report


def export_artefact(
    model: Gr00tModel,
    report: DuQuantReport,
    source: Source | Path,
    folder: Path,
    *,
    checkpoint: str | None = None,
    tokenizer: Path | None = None,
) -> Manifest:
    """Write a quantized model, with what is needed to serve it, as a folder that loads as it is.

    All is written into a folder beside it, the manifest last, and renamed at the end: an export that was
    killed leaves nothing under `folder`, and what it leaves elsewhere does not load.

    Args:
        model: quantized; on any device.
        report: of its quantization.
        source: the checkpoint, or its folder, whose metadata and tokenizer go along; of a policy of lerobot
            its rules, too.
        folder: where the artefact is to be; it does not exist, or is empty.
        checkpoint: what the manifest calls the checkpoint; its folder if None.
        tokenizer: folder of a tokenizer, for a checkpoint that has none.

    Raises:
        ArtefactError: static activation scales are not fixed yet, or nothing is quantized.
        FileExistsError: there is something under `folder`.
    """
    check_exportable(report)
    check_absent(folder)
    source = source if isinstance(source, Source) else open_source(source)
    with atomic_write(folder) as stage:
        stage.mkdir(parents=True)
        copy_beside_weights(source, stage)
        if tokenizer is not None and not any((stage / name).is_file() for name in TOKENIZER_FILES):
            _copy_along(tokenizer, TOKENIZER_FILES, stage)
        return _write(model, report, checkpoint or str(source.folder), stage)


def check_absent(folder: Path) -> None:
    """Refuse to write over anything.

    Raises:
        FileExistsError: the folder holds something, or it is a file.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already; delete it, or name another folder")
    for left, name in unfinished(folder.parent).items():
        if name == folder.name:
            logger.warning("%s is left from an export that was killed, or still runs", left)


def _write(model: Gr00tModel, report: DuQuantReport, checkpoint: str, stage: Path) -> Manifest:
    tensors = checkpoint_tensors(model)
    table = names_of(model)
    prefixes = tuple(f"{table.to_checkpoint(name)}." for name in report.layers)
    packed = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in packed}
    weight_map = write_weights(stage, rest)
    write_tensors(stage / FILE, packed)
    write_index(stage, model.config, rest | packed, weight_map | dict.fromkeys(packed, FILE))
    names = sorted(str(path.relative_to(stage)) for path in stage.rglob("*") if path.is_file())
    manifest = Manifest(
        checkpoint=checkpoint,
        dtype=str(model.dtype).removeprefix("torch."),
        settings=exported_settings(report.config),
        layers={name: layer.spec for name, layer in report.layers.items()},
        calibration=_calibration(report),
        linear_bytes_before=report.linear_bytes_before,
        model_bytes_before=report.model_bytes_before,
        versions={"gr00t": __version__, **_versions("torch", "safetensors")},
        files={name: checksum(stage / name) for name in names},
    )
    manifest.write(stage)
    return manifest


def copy_beside_weights(source: Source, stage: Path) -> None:
    """Copy what a checkpoint is served with beside its weights: metadata, tokenizer, licences.

    Args:
        source: of the checkpoint; of its folders the first one's files count.
        stage: where to.
    """
    rules = read_rules(source.folder)
    for folder in reversed(source.folders):
        _copy_along(folder, _ALONG, stage)
    # What says how the weights are served is of what was named alone: an adapter's is not its checkpoint's.
    shutil.rmtree(stage / METADATA.parent, ignore_errors=True)
    for name in (ADAPTER_CONFIG, RULES_FILE, *PIPELINES, SIDECAR):
        (stage / name).unlink(missing_ok=True)
    if rules is not None:
        rules.write(stage)
    elif (metadata := find_metadata(source.folder)).is_file():
        _copy_along(metadata.parents[1], ("experiment_cfg/*",), stage)
    else:
        logger.warning("%s has no %s, which a policy needs: none goes along", source.folder, METADATA)


def _copy_along(source: Path, patterns: Iterable[str], stage: Path) -> None:
    for path in sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_file()}):
        copy = stage / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def _calibration(report: DuQuantReport) -> dict[str, Any] | None:
    """What the packs that the layers came from were calibrated by."""
    uses_packs = report.informed or any(layer.spec.static for layer in report.layers.values())
    return read_record(report.config.pack_dir) if uses_packs else None


def _versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}
