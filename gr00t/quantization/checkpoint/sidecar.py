"""`duquant.json`: what is said of quantized layers, beside the plain safetensors files that hold them.

An exported model has one, and so has a folder of packs. All hashes are in it, one of its own content among
them, and it is written last: who is killed before leaves layers of which nothing is said, and whoever reads
them finds none. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gr00t.files.atomic import replace_file
from gr00t.quantization.checkpoint.checksums import ArtefactError
from gr00t.strict_json import parse_json

SIDECAR = "duquant.json"
FORMAT = "gr00t-duquant 2"
_LARGEST = 1 << 28  # bytes; of 116 layers there are 100 thousand

Kind = Literal["artefact", "packs"]


def write_sidecar(folder: Path, kind: Kind, content: Mapping[str, Any]) -> None:
    """Write what is said of the layers in a folder; a reader finds the file before it or this one, whole."""
    values = {"format": FORMAT, "kind": kind, "sha256": _hash(content), "content": content}
    replace_file(folder / SIDECAR, json.dumps(values, indent=1) + "\n")


def read_sidecar(folder: Path, kind: Kind) -> dict[str, Any] | None:
    """Return what is said of the layers in a folder; None where nothing is.

    Args:
        folder: of an exported model, or of packs.
        kind: which of them it is to be.

    Raises:
        ArtefactError: the file cannot be read, is damaged, of another version of the format or kind.
    """
    path = folder / SIDECAR
    if not os.path.lexists(path):
        return None
    values = _read(path)
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise ArtefactError(
            f"{path}: its format is {found!r:.80}, this version reads {FORMAT!r}; write it anew, by "
            "scripts/export_quantized.py or scripts/calibrate.py, or load it by the version that wrote it"
        )
    content = values.get("content")
    if not isinstance(content, dict) or values.get("sha256") != _hash(content):
        raise ArtefactError(f"{path}: its content is not what was written (SHA-256 differs)")
    if values.get("kind") != kind:
        raise ArtefactError(f"{path}: is of {values.get('kind')!r:.80}, expected {kind!r}")
    return content


def said_kind(folder: Path) -> Any:
    """Return the kind that `duquant.json` names, damaged or not; None where there is none to be read."""
    try:
        values = _read(folder / SIDECAR)
    except ArtefactError:
        return None
    return values.get("kind") if isinstance(values, dict) else None


def _read(path: Path) -> Any:
    try:
        if not path.is_file():
            raise FileNotFoundError(0, "no such file, or something else")
        if path.stat().st_size > _LARGEST:
            raise ArtefactError(f"{path}: {path.stat().st_size:,} bytes, expected at most {_LARGEST:,}")
        text = path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror})") from None
    try:
        return parse_json(text)
    except ValueError as error:
        raise ArtefactError(f"{path}: damaged ({error})") from None


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
