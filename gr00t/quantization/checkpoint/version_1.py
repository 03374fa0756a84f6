"""What was written before there was a sidecar: artefacts and packs with all that is said in the metadata.

They load as they did, bit for bit; none are written any more. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.files.hashing import feed
from gr00t.files.safetensors_header import Header
from gr00t.quantization.checkpoint.checksums import ArtefactError, read_header
from gr00t.strict_json import parse_json

FORMAT = "gr00t-duquant-artefact 1"
PACK_FORMAT = "duquant-pack 2"


def manifest_values(path: Path) -> Any:
    """Return what the file of an artefact's quantized layers says, as `duquant.json` says it today.

    Raises:
        ArtefactError: the file cannot be read, is truncated, damaged, of another version, or says nothing.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(0, "no such file, or something else")
        metadata = read_header(path).metadata
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror})") from None
    found = metadata.get("artefact")
    if found is None:
        raise ArtefactError(
            f"{path}: nothing says what its layers are: no duquant.json is beside it, as after an export "
            "that did not end, or a copy of a part; export it anew, or copy all of it"
        )
    text = metadata.get("manifest", "")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if found != FORMAT:
        raise ArtefactError(
            f"{path}: its format is {found!r}, this version reads {FORMAT!r}; export it anew by "
            "scripts/export_quantized.py, or load it by the version that exported it"
        )
    if metadata != {"format": "pt", "artefact": FORMAT, "manifest": text, "manifest_sha256": digest}:
        raise ArtefactError(f"{path}: its manifest is not what was exported (SHA-256 differs)")
    try:
        values = parse_json(text)
        files = values["files"]
        files[path.name] = {"bytes": path.stat().st_size, "sha256": values.pop("tensors_sha256")}
    except (ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{path}: its manifest cannot be used: {error}") from None
    return values


def hash_tensors(path: Path) -> str:
    """Return the SHA-256 of names, dtypes, shapes, places and bytes of all tensors in a safetensors file.

    Raises:
        ArtefactError: as `read_header`.
    """
    header = read_header(path)
    digest = tensors_digest(header)
    with path.open("rb") as file:
        file.seek(header.start)
        feed(digest, file)
    return digest.hexdigest()


def tensors_digest(header: Header) -> hashlib._Hash:
    """Return the digest that `hash_tensors` goes on with, by the bytes of the tensors."""
    return hashlib.sha256(json.dumps(header.tensors, sort_keys=True, separators=(",", ":")).encode())


def pack_entry(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what a pack's own metadata say, as `duquant.json` says it today; None where they are no pack's.

    Raises:
        ValueError: they are damaged.
    """
    if metadata.get("format") != PACK_FORMAT:
        return None
    spec = parse_json(metadata.get("settings", ""))
    if not isinstance(spec, dict):
        raise ValueError("its settings are no object")
    made_from = {name: spec.pop(name) for name in ("rotation_absorbed", "statistics") if name in spec}
    return {
        "spec": spec,
        "made_from": {"weight": metadata.get("weight"), **made_from},
        "state_sha256": metadata.get("state_sha256"),
        "statistics_sha256": metadata.get("statistics_sha256"),
    }
