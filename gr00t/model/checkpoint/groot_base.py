"""The architecture of a groot policy: that of the checkpoint it was trained from, which the folder names."""

from __future__ import annotations

from pathlib import Path

from gr00t.files.home import expanded
from gr00t.model.checkpoint.folder_kind import CONFIG_FILE, FolderKind, recognize
from gr00t.model.checkpoint.hub import HUB_ID, fetch_file
from gr00t.model.checkpoint.json_section import CheckpointError, read_json

NVIDIA_BASE = "nvidia/GR00T-N1.5-3B"
_ADVICE = f"give the checkpoint with --base; {NVIDIA_BASE}, if that is where it began, needs no files"
_SHOWN = 300  # characters of a name


def base_folder(folder: Path, base: str | Path | None, *, download: bool = True) -> Path | None:
    """Return the folder whose config.json has the architecture; None: the built-in one.

    Args:
        folder: of the policy. What it was trained from may be a groot policy, too, which has been trained
            from something.
        base: folder or hub id to use instead of what the policy names.
        download: a hub id's config.json may be fetched, if the hub's cache does not have it.

    Raises:
        CheckpointError: what the policy names is not here, and cannot be fetched.
    """
    passed: list[Path] = []
    at: Path | None = folder
    while at is not None and (not passed or recognize(at) is FolderKind.LEROBOT):
        if at.resolve() in passed:
            raise CheckpointError(f"{folder}: names itself as what it was trained from; {_ADVICE}")
        passed.append(at.resolve())
        at = _named_base(at, base if len(passed) == 1 else None, download)
    return at


def _named_base(folder: Path, base: str | Path | None, download: bool) -> Path | None:
    """What one policy was trained from."""
    name = read_json(folder / CONFIG_FILE).get("base_model_path", NVIDIA_BASE) if base is None else str(base)
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: base_model_path must be a folder or a hub id, got {name!r}; {_ADVICE}"
        )
    path = _folder(name)
    if path is not None:
        return path
    if name.lower() == NVIDIA_BASE.lower():
        return None
    if HUB_ID.fullmatch(name) and download:
        found = fetch_file(name, CONFIG_FILE)
        if found is not None:
            return found.parent
    raise CheckpointError(
        f"{folder} was trained from {name[:_SHOWN]}, whose {CONFIG_FILE} has the architecture and is not "
        f"here; {_ADVICE}"
    )


def _folder(name: str) -> Path | None:
    try:
        path = expanded(name)
        return path if path.is_dir() else None
    except OSError:  # too long for a path
        return None
