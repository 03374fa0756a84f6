"""What an exported artefact says of itself, in `duquant.json` (`sidecar`). Imports no torch.

An artefact is a checkpoint folder whose quantized layers lie, packed, in one safetensors file of their own.
The manifest beside it says what every layer is, the settings, and the SHA-256 of every file of the folder.
Here it is written, read, and held against settings that somebody has exported beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gr00t.files.hashing import hash_file
from gr00t.files.safetensors_header import Header
from gr00t.quantization.checkpoint import version_1
from gr00t.quantization.checkpoint.checksums import ArtefactError, check_files
from gr00t.quantization.checkpoint.manifest_values import checked_values, spec_to_json
from gr00t.quantization.checkpoint.sidecar import FORMAT, SIDECAR, read_sidecar, said_kind, write_sidecar
from gr00t.quantization.settings.environment import PREFIX, DuQuantConfig, DuQuantConfigError
from gr00t.quantization.settings.options import Execution, Rounding
from gr00t.quantization.settings.spec import LinearSpec
from gr00t.quantization.settings.variable import as_text

FILE = "duquant.safetensors"

# Fields of the settings that change no number: they are decided where an artefact is loaded.
_AT_RUN_TIME = ("execution", "backend", "precache_weights", "debug", "profile", "profile_sync", "dry_run")
# What else may be set beside an artefact, without effect on it.
_WITHOUT_EFFECT = ("enable", "pack_dir", "include_action_head")
# What an artefact was exported with that says nothing of a variable, since there was none.
_AS_BEFORE = {PREFIX + "ROUNDING": Rounding.NEAREST.value}


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
        version: 1 where it was exported before there was a sidecar (`version_1`): of the quantized layers
            the hash is that of their tensors, not that of their file.
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
    version: int = 2

    def write(self, folder: Path) -> None:
        """Write it into the artefact's folder, where all else is; `read_manifest` reads it back."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["version"]
        values["layers"] = {name: spec_to_json(spec) for name, spec in self.layers.items()}
        write_sidecar(folder, "artefact", values)

    @property
    def format(self) -> str:
        """What the file calls the format that it is written in."""
        return FORMAT if self.version > 1 else version_1.FORMAT

    @property
    def layers_sha256(self) -> str:
        """SHA-256 of all quantized layers."""
        return str(self.files[FILE]["sha256"])

    @property
    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of files by their path in the folder, of all that were hashed as a whole."""
        return {
            name: str(entry["sha256"])
            for name, entry in self.files.items()
            if not self._hashes_tensors(Path(name))
        }

    def check_files(self, folder: Path, hash_of: Callable[[Path], str] | None = None) -> int:
        """Read every file and compare it with what was exported; return how many bytes that were.

        Args:
            folder: of the artefact.
            hash_of: as `hash_file`; whoever keeps what was read gives one of their own.

        Raises:
            ArtefactError: see `checksums.check_files`.
        """
        return check_files(folder, self.files, SIDECAR, hash_of or self.hash_file)

    def hash_file(self, path: Path) -> str:
        """Return the hash of a file of the artefact as `files` has it."""
        return version_1.hash_tensors(path) if self._hashes_tensors(path) else hash_file(path)

    def begin_hash(self, path: Path, header: Header) -> hashlib._Hash:
        """Return the digest that `hash_file` goes on with, by the bytes of the tensors of a weight file."""
        if self._hashes_tensors(path):
            return version_1.tensors_digest(header)
        return hashlib.sha256(header.text)

    def _hashes_tensors(self, path: Path) -> bool:
        return self.version == 1 and path.name == FILE

    @property
    def informed(self) -> int:
        """How many layers were quantized by recorded statistics of their inputs."""
        return sum(spec.informed for spec in self.layers.values())

    def config(self, environ: Mapping[str, str]) -> DuQuantConfig:
        """Return the settings of the artefact, with what `environ` decides where it is loaded.

        EXECUTION (`auto` where it is not set), BACKEND, PRECACHE_WEIGHTS, DEBUG, DRYRUN, PROFILE and
        PROFILE_SYNC are free. PACKDIR and ENABLE=1 have no effect. Any other variable may be set to what the
        artefact was exported with, and to nothing else.

        Raises:
            DuQuantConfigError: `environ` asks for something that the artefact is not; all of it is listed.
        """
        given = DuQuantConfig.given(environ)
        stored = DuQuantConfig(**DuQuantConfig.given({**_AS_BEFORE, **self.settings}))
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


def check_packdir(folder: Path) -> None:
    """Refuse to write packs into an artefact's folder, whole or damaged: it would be none any more.

    Raises:
        ArtefactError: it is one.
    """
    if os.path.lexists(folder / FILE) or said_kind(folder) == "artefact":
        raise ArtefactError(
            f"PACKDIR {folder} is the folder of an exported model, which packs would damage; name another"
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of an artefact's folder; None where the folder is none. Reads no tensor.

    A checkpoint may be the PACKDIR of its own layers, and is none for that.

    Raises:
        ArtefactError: the file cannot be read, is damaged, of another version of the format, or not an
            artefact's; or there are quantized layers of which nothing is said.
    """
    if not os.path.lexists(folder / FILE) and said_kind(folder) == "packs":
        return None
    values, version, path = read_sidecar(folder, "artefact"), 2, folder / SIDECAR
    if values is None and os.path.lexists(folder / FILE):
        values, version, path = version_1.manifest_values(folder / FILE), 1, folder / FILE
    if values is None:
        return None
    try:
        found = checked_values(values)
        if FILE not in found["files"]:
            raise ValueError(f"files: expected {FILE} among them")
    except ValueError as error:
        raise ArtefactError(f"{path}: its manifest cannot be used: {error}") from None
    return Manifest(**found, version=version)
