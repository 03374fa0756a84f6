"""The file by which a run goes on: written whole, and checked before it is believed.

It is what `torch.save` writes, a zip file in which every part has a checksum.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from gr00t.files.atomic import atomic_write

STATE_FILE = "training_state.pt"


class StateError(ValueError):
    """A state that cannot be used; the message names the file."""


def write_state(state: dict[str, Any], folder: Path) -> None:
    """Write the state of a run; an earlier one stays until this one is whole.

    Raises:
        OSError: the system refused it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(folder / STATE_FILE) as aside, aside.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        # What torch makes of a full disk; its own cause says so.
        cause = error.__cause__ or error.__context__
        raise cause if isinstance(cause, OSError) else OSError(str(error)) from error


def check_state_file(path: Path) -> None:
    """Compare every part of a state with its checksum.

    Raises:
        StateError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise StateError(f"{path}: damaged: {error}") from error
    if broken is not None:
        raise StateError(f"{path}: damaged: {broken} does not have its checksum")


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state that is whole.

    Raises:
        StateError: it is damaged, or no state of a run.
    """
    check_state_file(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise StateError(f"{path}: cannot be read: {error}") from error
    expected = {"run", "step", "parameters", "average", "optimizer"}
    if not isinstance(state, dict) or expected - state.keys():
        raise StateError(f"{path}: not the state of a run: expected {', '.join(sorted(expected))}")
    return state
