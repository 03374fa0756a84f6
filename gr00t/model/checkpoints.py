"""What a folder or a hub id is: asked here, once, with one typed answer or one clear error.

    checkpoint = open_checkpoint("somebody/a-policy")
    model, report = checkpoint.load_model(torch.bfloat16, environ)

Opening reads configurations and headers, and no weight. A folder that is neither a checkpoint, a quantized
one, a groot policy of lerobot nor an adapter beside its base is a `CheckpointError` that says what it is:
pointers of Git LFS, another family's, half a download, nothing (`checkpoint.folder_kind`). Importing this
imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gr00t.model.checkpoint.folder_kind import FolderKind
from gr00t.model.checkpoint.hub import local_folder
from gr00t.model.checkpoint.source import Source, open_source
from gr00t.model.quantized_layers import DEFAULTS, log_scope
from gr00t.quantization.checkpoint.manifest import Manifest, read_manifest
from gr00t.quantization.settings.environment import why_not_enabled

if TYPE_CHECKING:
    import torch

    from gr00t.model.network.model import Gr00tModel
    from gr00t.quantization.report import DuQuantReport
    from gr00t.quantization.settings.spec import LinearSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FloatCheckpoint:
    """Weights in floating point: NVIDIA's layout, a groot policy of lerobot, or an adapter and its base.

    Attributes:
        source: its folders and its architecture.
    """

    source: Source

    @property
    def file_hashes(self) -> Mapping[str, str]:
        """Nothing: loading reads no file as a whole."""
        return {}

    def load_model(
        self, torch_dtype: torch.dtype, environ: Mapping[str, str], served_embodiment: int | None = None
    ) -> tuple[Gr00tModel, DuQuantReport | None]:
        """Load the model onto the CPU, and quantize it where the settings in `environ` say so.

        It is whole, whether or not one embodiment alone is to be served.

        Raises:
            CheckpointError: the weights are damaged, or do not fit.
            DuQuantConfigError, DuQuantSelectionError: the settings are wrong.
            DuQuantDryRunError: they ask for a list of the layers, which is in the log then.
        """
        from gr00t.model.checkpoint.folder import module_aliases
        from gr00t.model.families import model_class
        from gr00t.quantization import enable_duquant_if_configured

        model = model_class(self.source.config).from_source(self.source, torch_dtype)
        report = enable_duquant_if_configured(model, environ, module_aliases(model), DEFAULTS)
        if report is not None:
            log_scope(report.bits, report.config)
        return model, report


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """What scripts/export_quantized.py wrote.

    Attributes:
        source: its folder and its architecture.
        manifest: what it says of its quantized layers.
    """

    source: Source
    manifest: Manifest

    @property
    def file_hashes(self) -> Mapping[str, str]:
        """SHA-256 of files by their path in the folder, which `load_model` refuses to load if they differ."""
        return self.manifest.file_hashes

    def load_model(
        self,
        torch_dtype: torch.dtype,
        environ: Mapping[str, str] | None = None,
        served_embodiment: int | None = None,
    ) -> tuple[Gr00tModel, DuQuantReport]:
        """Load the model onto the CPU as it was exported; see `artefact.load_artefact`."""
        from gr00t.model.artefact import load_artefact

        model, report = load_artefact(self.source, self.manifest, torch_dtype, environ, served_embodiment)
        log_scope(report.bits, report.config)
        return model, report


Checkpoint = FloatCheckpoint | QuantizedCheckpoint


def open_checkpoint(path_or_hub_id: str | Path, base: str | Path | None = None) -> Checkpoint:
    """Say what a checkpoint is; one of the model hub is downloaded, if it is not in the cache.

    Args:
        path_or_hub_id: of a checkpoint, float or quantized, or of an adapter; `~` is the user's home.
        base: of the checkpoint that an adapter was trained on, or that a policy of lerobot began from.

    Raises:
        CheckpointError: nothing usable is there; the message says what is, and what to give instead.
        ArtefactError: a quantized checkpoint that is damaged or of another version.
    """
    source = open_source(path_or_hub_id, base)
    if source.kind is not FolderKind.QUANTIZED:
        return FloatCheckpoint(source)
    manifest = read_manifest(source.folder)
    assert manifest is not None
    return QuantizedCheckpoint(source, manifest)


def find_manifest(path_or_hub_id: str | Path | None) -> Manifest | None:
    """Return the manifest of a quantized checkpoint; None for any other, and for what is not on this machine.

    Raises:
        CheckpointError: it is neither a folder nor a hub id.
        ArtefactError: a quantized checkpoint that is damaged or of another version.
    """
    folder = None if path_or_hub_id is None else local_folder(path_or_hub_id)
    return None if folder is None else read_manifest(folder)


def scan_layers(
    path_or_hub_id: str | Path | None, environ: Mapping[str, str], base: str | Path | None = None
) -> Mapping[str, LinearSpec]:
    """Log the layers that are quantized, or would be, from headers and architecture, and return them.

    Nothing is downloaded. Where the settings turn quantization off there are none.

    Args:
        path_or_hub_id: of a checkpoint; None, or not on this machine: the full-size architecture.
        environ: the settings.
        base: as for `open_checkpoint`.

    Raises:
        CheckpointError, ArtefactError, DuQuantConfigError: as a server that is started so.
    """
    manifest = find_manifest(path_or_hub_id)
    if manifest is not None:
        from gr00t.quantization.checkpoint.artefact import list_exported

        settings = manifest.config(environ)
        exported = list_exported(manifest)
        log_scope({name: spec.bits for name, spec in exported.items()}, settings)
        return exported
    from gr00t.model.meta_model import build_structure
    from gr00t.quantization import DuQuantConfig, list_layers

    config = DuQuantConfig.from_environ(environ, DEFAULTS)
    model, aliases = build_structure(path_or_hub_id, base)
    if config is None:
        logger.info("[GR00T-DUQUANT] DuQuant not enabled: %s", why_not_enabled(environ))
        return {}
    plans = list_layers(model, config, aliases)
    listed = {plan.name: plan.spec for plan in plans if plan.spec is not None}
    log_scope({name: spec.bits for name, spec in listed.items()}, config)
    return listed
