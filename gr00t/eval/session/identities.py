"""What an arm was when its first episodes were played, it has to be for the others: told by content."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr00t.eval.arms.facts import ArmFacts, QuantizationReport
from gr00t.eval.arms.hosts import ServerChangedError
from gr00t.eval.rollout.run_folder import RunFolder
from gr00t.quantization.calibration import record as calibration_record
from gr00t.serving.identity import digest, files_hash, source_files, versions

# Of the process that plays: what it makes of images and actions.
_PLAYING = ("numpy", "scipy", "pillow")
_MOST_FILES_NAMED = 5


def arm_identity(facts: ArmFacts, packdir: Path | None) -> dict[str, Any]:
    """All that decides an arm's answers, by name, as plain data; the simulators' part is in every record.

    Args:
        facts: What `arms/NAME.json` is going to say.
        packdir: Folder of its packs, where it lies on this machine.
    """
    report, info = facts.quantization or QuantizationReport(), facts.server_info or {}
    served = info.get("identity") or {}
    settings = facts.settings
    return {
        "sources": digest(source_files()),
        "python": sys.version.split()[0],
        **versions(_PLAYING),
        "checkpoint": (facts.checkpoint or {}).get("sha256"),
        "denoising_steps": facts.denoising_steps,
        "settings": None if settings is None else dict(sorted(settings.items())),
        "quantized_layers": facts.quantized_layers,
        "dtype": info.get("dtype"),
        "prompt_style": info.get("prompt_style"),
        **report.hashes,
        "packs": packs_hash(packdir, report.layers),
        **{f"server {name}": value for name, value in served.items() if name != "model"},
        **{f"server {name}": value for name, value in (info.get("versions") or {}).items()},
    }


def packs_hash(packdir: Path | None, layers: Mapping[str, Any]) -> str | None:
    """SHA-256 of the packs of these layers and of what calibrated them; None where there are none."""
    if packdir is None or not packdir.is_dir():
        return None
    names = [f"{layer}.safetensors" for layer in sorted(layers)] + [calibration_record.FILE]
    return files_hash(packdir, [packdir / name for name in names if (packdir / name).is_file()])


def keep_sources(folder: RunFolder) -> None:
    """Write down which sources there are, so that a later run can tell which of them changed."""
    files = source_files()
    folder.describe_sources(digest(files), files)


def check_unchanged(folder: RunFolder, name: str, now: Mapping[str, Any]) -> None:
    """Refuse to go on with an arm that is not what its episodes were played with.

    The records themselves say which identity they are of; `arms/NAME.json` only what that consists of.

    Args:
        folder: Of the run.
        name: Of the arm.
        now: What it is now, from `arm_identity`.

    Raises:
        ServerChangedError: naming all that differs, and what to do.
    """
    played = {
        record.conditions.identity
        for record in folder.records.values()
        if record.key.arm == name and record.was_played
    }
    if played <= {digest(now)}:
        return
    known = folder.known_arm(name)
    before = None if known is None else known.identity
    if played == {None}:
        reason = ", what it was: their records do not tell"
    elif len(played) > 1:
        reason = f", and these are of {len(played)} different identities"
    elif before is None:
        reason = f", what differs cannot be told: arms/{name}.json is missing or has no identity"
    elif {digest(before)} != played:
        reason = f", what differs cannot be told: arms/{name}.json is not that of these episodes"
    else:
        told = [
            f"{key}: {_difference(folder, key, before.get(key), now.get(key))}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        reason = ", " + "; ".join(told)
    raise ServerChangedError(
        f"arm {name} is not what the episodes in {folder.path} were played with{reason}; "
        "name another --output"
    )


def _difference(folder: RunFolder, key: str, before: Any, now: Any) -> str:
    """Both values, or the files where they are hashes of known lists of sources."""
    old = folder.known_sources(before) if key.endswith("sources") else None
    new = source_files()
    if old is None or digest(new) != now:
        return f"{before!r} there, {now!r} now"
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    more = len(changed) - _MOST_FILES_NAMED
    return ", ".join(changed[:_MOST_FILES_NAMED]) + (f" and {more} more" if more > 0 else "")
