"""calibration.json: what the packs of a folder were calibrated from, and whether that came to its end.

Every pack is written whole, but a calibration is all packs of a folder together. So this file says
"complete": false before the first pack is written and true after the last one was read back; no model is
quantized from a folder in between, whoever was killed there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.files.atomic import replace_file
from gr00t.strict_json import parse_json

FILE = "calibration.json"
# Of the facts: a digest of every observation that calibrated, by which nothing is judged later.
DIGESTS = "observation_digests"


class UnfinishedCalibrationError(ValueError):
    """The packs of a folder come from a calibration that has not ended, or not well."""


def write_record(folder: Path, facts: Mapping[str, Any], *, complete: bool) -> Path:
    """Write calibration.json into `folder`, in place of the one that is there.

    Args:
        folder: of the packs; made where it does not exist.
        facts: what is worth knowing later, as plain data; servers log its `date`, the number of
            `requests` and what the `observations` were.
        complete: whether all packs are there.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    replace_file(path, json.dumps({"complete": complete, **facts}, indent=2) + "\n")
    return path


def read_record(folder: Path | None) -> dict[str, Any] | None:
    """Return what calibration.json in `folder` says, or None where there is none.

    Raises:
        UnfinishedCalibrationError: it says that the calibration has not ended, or it cannot be read.
    """
    path = None if folder is None else folder / FILE
    if path is None or not os.path.lexists(path):
        return None
    advice = f"run scripts/calibrate.py to its end, or delete {path} to use the packs as they are"
    try:
        if not path.is_file():
            raise OSError("it is no file")
        found = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnfinishedCalibrationError(f"{path} cannot be read ({error}); {advice}") from error
    except ValueError as error:
        raise UnfinishedCalibrationError(f"{path} is not JSON ({error}); {advice}") from error
    if not isinstance(found, dict) or found.get("complete") is not True:
        raise UnfinishedCalibrationError(
            f"PACKDIR {folder}: its calibration has not ended, or still runs; {advice}"
        )
    return found


def record_sha256(record: Mapping[str, Any] | None) -> str | None:
    """Return the SHA-256 of what a record says, the same wherever it is kept; None of none."""
    if record is None:
        return None
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
