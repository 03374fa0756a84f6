"""What an exported artefact says of itself: the metadata of its file of quantized layers. Imports no torch.

An artefact is a checkpoint folder whose quantized layers lie, packed, in one safetensors file of their own,
`duquant.safetensors`. The metadata of this file is the manifest: what every layer is, the settings, and
SHA-256 hashes of the layers' tensors and of every other file of the folder. `seals` computes and checks the
hashes; here the manifest is written, read, and held against settings that somebody has exported beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.quantization.checkpoint.checksums import ArtefactError, read_header
from gr00t.quantization.checkpoint.manifest_values import checked_values, spec_to_json
from gr00t.quantization.settings.environment import PREFIX, DuQuantConfig, DuQuantConfigError
from gr00t.quantization.settings.options import Execution
from gr00t.quantization.settings.spec import LinearSpec
from gr00t.quantization.settings.variable import as_text
from gr00t.strict_json import parse_json

FILE = "duquant.safetensors"
FORMAT = "gr00t-duquant-artefact 1"

# Fields of the settings that change no number: they are decided where an artefact is loaded.
_AT_RUN_TIME = ("execution", "precache_weights", "debug", "profile", "profile_sync", "dry_run")
# What else may be set beside an artefact, without effect on it.
_WITHOUT_EFFECT = ("enable", "pack_dir", "include_action_head")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is in an artefact.

    Attributes:
        checkpoint: what it was exported from, as it was named then.
        dtype: of everything that is not quantized.
        settings: that it was quantized by, by variable; without those that are decided where it is loaded.
        layers: the specification of every quantized layer by its name in the model, in model order.
        calibration: what calibration.json beside the packs said (`calibration_record`), or None.
        linear_bytes_before: bytes of the linears that the layers replaced.
        model_bytes_before: bytes of the model that it was exported from.
        versions: of the packages that made it.
        files: size and SHA-256 of every other file of the folder, by its path in there.
        tensors_sha256: of the quantized layers' tensors (`seals.hash_tensors`).
    """

    checkpoint: str
    dtype: str
    settings: Mapping[str, str]
    layers: Mapping[str, LinearSpec]
    calibration: Mapping[str, Any] | None
    linear_bytes_before: int
    model_bytes_before: int
    versions: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]
    tensors_sha256: str

    def to_metadata(self) -> dict[str, str]:
        """Return the entries of the file's metadata; `read_manifest` reads them back."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["layers"] = {name: spec_to_json(spec) for name, spec in self.layers.items()}
        return _metadata(json.dumps(values, separators=(",", ":")))

    @property
    def informed(self) -> int:
        """How many layers were quantized by recorded statistics of their inputs."""
        return sum(spec.informed for spec in self.layers.values())

    def config(self, environ: Mapping[str, str]) -> DuQuantConfig:
        """Return the settings of the artefact, with what `environ` decides where it is loaded.

        EXECUTION (`auto` where it is not set), PRECACHE_WEIGHTS, DEBUG, DRYRUN, PROFILE and PROFILE_SYNC are
        free. PACKDIR and ENABLE=1 have no effect. Any other variable may be set to what the artefact was
        exported with, and to nothing else.

        Raises:
            DuQuantConfigError: `environ` asks for something that the artefact is not; all of it is listed.
        """
        given = DuQuantConfig.given(environ)
        stored = DuQuantConfig(**DuQuantConfig.given(self.settings))
        problems = []
        if given.get("enable") is False:
            problems.append(f"{PREFIX}ENABLE=0: an artefact has no unquantized weights")
        for field in dataclasses.fields(DuQuantConfig):
            name, variable = field.name, PREFIX + field.metadata["variable"].suffix
            if name not in given or name in _AT_RUN_TIME or name in _WITHOUT_EFFECT:
                continue
            # BLOCK_OUT may be written out where it is what it would be anyway.
            had = stored.block_out if name == "block_out_or_none" else getattr(stored, name)
            if given[name] != had:
                text = "16" if had is None and name in ("weight_bits", "act_bits") else as_text(had)
                problems.append(f"{variable}={environ[variable]!r}: exported with {text!r}")
        if problems:
            raise DuQuantConfigError(
                "the artefact is not what the settings ask for\n  "
                + "\n  ".join(problems)
                + f"\nUnset them, or start from the checkpoint that it was exported from: {self.checkpoint}"
            )
        free = {name: given[name] for name in _AT_RUN_TIME if name in given}
        return dataclasses.replace(stored, **{"execution": Execution.AUTO, **free})


def exported_settings(config: DuQuantConfig) -> dict[str, str]:
    """Return the settings that a manifest keeps: all that change a number."""
    left_out = {*_AT_RUN_TIME, *_WITHOUT_EFFECT}
    kept = {field.metadata["variable"].suffix: field.name for field in dataclasses.fields(config)}
    return {
        name: text
        for name, text in config.to_dict().items()
        if kept[name.removeprefix(PREFIX)] not in left_out
    }


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of an artefact's folder; None where the folder is none. Reads one header.

    Raises:
        ArtefactError: the file cannot be read, is truncated, damaged, of another version of the format, or
            not an artefact's.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    try:
        if not path.is_file():
            raise FileNotFoundError(0, "no such file, or something else")
        metadata = read_header(path).metadata
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror})") from None
    found = metadata.get("artefact")
    if found is None:
        raise ArtefactError(f"{path}: not the file of an artefact: its metadata lack 'artefact'")
    if found != FORMAT:
        raise ArtefactError(
            f"{path}: its format is {found!r}, this version reads {FORMAT!r}; export it anew by "
            "scripts/export_quantized.py, or load it by the version that exported it"
        )
    text = metadata.get("manifest", "")
    if metadata != _metadata(text):
        raise ArtefactError(f"{path}: its manifest is not what was exported (SHA-256 differs)")
    try:
        return Manifest(**checked_values(parse_json(text)))
    except ValueError as error:
        raise ArtefactError(f"{path}: its manifest cannot be used: {error}") from None


def _metadata(manifest: str) -> dict[str, str]:
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    return {"format": "pt", "artefact": FORMAT, "manifest": manifest, "manifest_sha256": digest}
