"""The JSON of a manifest, checked: every field has the type and the range that an export gives it.

The manifest has a hash of its own, which whoever changes it can compute anew; and what is wrong in it is to
be one clear error, not a traceback from wherever it is used first. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from gr00t.quantization.checkpoint.checksums import is_within
from gr00t.quantization.settings.environment import DuQuantConfig
from gr00t.quantization.settings.options import Rotation, Rounding, RowRotation, WeightScale
from gr00t.quantization.settings.spec import IntFormat, LinearSpec
from gr00t.spelling import shown

_ENUMS: dict[str, type[Enum]] = {
    "weight_scale": WeightScale,
    "rotation": Rotation,
    "row_rotation": RowRotation,
    "rounding": Rounding,
}
_SPEC_FIELDS = LinearSpec.__dataclass_fields__.keys()
# What is left out where it is as it was before there was another: packs and artefacts of then stay the same.
_ONCE = {"rounding": Rounding.NEAREST.value}


def checked_values(values: Any) -> dict[str, Any]:
    """Return the fields of a `Manifest` by name, its layers as specifications.

    Args:
        values: what the JSON text says.

    Raises:
        ValueError: a field is missing, unknown, or not what it can be; the message names it.
    """
    if not isinstance(values, dict):
        raise ValueError("not an object")
    if values.keys() != _CHECKS.keys():
        wrong = sorted(values.keys() ^ _CHECKS.keys())
        raise ValueError(f"missing or unknown: {', '.join(name[:60] for name in wrong)}")
    read = {}
    for name, check in _CHECKS.items():
        try:
            read[name] = check(values[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return read


def spec_to_json(spec: LinearSpec) -> dict[str, Any]:
    """Return a specification as plain data."""
    values = {name: getattr(spec, name) for name in _SPEC_FIELDS}
    for side in ("weight", "activation"):
        values[side] = None if values[side] is None else {"bits": values[side].bits}
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if _ONCE.get(name, ...) != value}


def spec_from_json(values: Any) -> LinearSpec:
    """Return the specification that `spec_to_json` wrote.

    Raises:
        ValueError: a field is missing, unknown, or not what it can be.
    """
    if not isinstance(values, dict) or {*_ONCE, *values} != _SPEC_FIELDS:
        raise ValueError(f"expected an object with {', '.join(sorted(_SPEC_FIELDS))}, got {shown(values)}")
    read: dict[str, Any] = {**_ONCE, **values}
    for name, kind in _ENUMS.items():
        allowed = [member.value for member in kind]
        if read[name] not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {shown(read[name])}")
        read[name] = kind(read[name])
    for side in ("weight", "activation"):
        found = read[side]
        if found is not None:
            if not isinstance(found, dict) or found.keys() != {"bits"}:
                raise ValueError(f"{side}: expected null or bits, got {shown(found)}")
            read[side] = IntFormat(found["bits"])
    return LinearSpec(**read)


def _layers(value: Any) -> dict[str, LinearSpec]:
    specs = {}
    for name, values in _object(value).items():
        try:
            specs[name] = spec_from_json(values)
        except ValueError as error:
            raise ValueError(f"{name[:200]}: {error}") from None
    if not specs:
        raise ValueError("expected at least one layer")
    return specs


def _files(value: Any) -> dict[str, dict[str, Any]]:
    files = _object(value)
    if not files:
        raise ValueError("expected the files of the folder, got none")
    for name, checksum in files.items():
        if not is_within(name):
            raise ValueError(f"{shown(name)} leads out of the folder")
        if not isinstance(checksum, dict) or checksum.keys() != {"bytes", "sha256"}:
            raise ValueError(f"{name}: expected bytes and sha256, got {shown(checksum)}")
        _size(checksum["bytes"], least=0)
        digest(checksum["sha256"])
    return files


def _settings(value: Any) -> dict[str, str]:
    settings = _texts(value)
    DuQuantConfig.given(settings)  # a ValueError that lists what is wrong
    return settings


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {shown(value)}")
    return value


def _texts(value: Any) -> dict[str, str]:
    for name, text in _object(value).items():
        if not isinstance(text, str):
            raise ValueError(f"{name[:60]}: expected text, got {shown(text)}")
    return dict(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {shown(value)}")
    return value


def _dtype(value: Any) -> str:
    if value not in ("bfloat16", "float32"):
        raise ValueError(f"expected bfloat16 or float32, got {shown(value)}")
    return str(value)


def _size(value: Any, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 2**63:
        raise ValueError(f"expected a number of bytes, got {shown(value)}")
    return value


def digest(value: Any) -> str:
    """Return the text of a SHA-256.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"expected a SHA-256 of 64 hexadecimal digits, got {shown(value)}")
    return value


def _object_or_none(value: Any) -> dict[str, Any] | None:
    return None if value is None else _object(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "checkpoint": _text,
    "dtype": _dtype,
    "settings": _settings,
    "layers": _layers,
    "calibration": _object_or_none,
    "linear_bytes_before": _size,
    "model_bytes_before": _size,
    "versions": _texts,
    "files": _files,
}
