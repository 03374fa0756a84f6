"""The architecture of a groot policy: that of the checkpoint it was trained from, which the folder names."""

from __future__ import annotations

from pathlib import Path

from gr00t.model.folder_kind import CONFIG_FILE
from gr00t.model.hub import HUB_ID, fetch_file
from gr00t.model.json_section import CheckpointError, read_json

NVIDIA_BASE = "nvidia/GR00T-N1.5-3B"


def base_folder(folder: Path, base: str | Path | None, *, download: bool = True) -> Path | None:
    """Return the folder whose config.json has the architecture; None: the built-in one.

    Args:
        folder: of the policy.
        base: folder or hub id to use instead of what the policy names.
        download: a hub id's config.json may be fetched, if the hub's cache does not have it.

    Raises:
        CheckpointError: what the policy names is not here, and cannot be fetched.
    """
    said = read_json(folder / CONFIG_FILE).get("base_model_path", NVIDIA_BASE)
    name = str(base if base is not None else said)
    path = Path(name).expanduser()
    if path.is_dir():
        if path.resolve() == folder.resolve():
            raise CheckpointError(f"{folder}: names itself as what it was trained from; {_ADVICE}")
        return path
    if name.lower() == NVIDIA_BASE.lower():
        return None
    if HUB_ID.fullmatch(name) and not path.is_absolute() and download:
        found = fetch_file(name, CONFIG_FILE)
        if found is not None:
            return found.parent
    raise CheckpointError(
        f"{folder} was trained from {name}, whose {CONFIG_FILE} has the architecture and is not here; "
        f"{_ADVICE}"
    )


_ADVICE = f"give the checkpoint with --base; {NVIDIA_BASE}, if that is where it began, needs no files"
