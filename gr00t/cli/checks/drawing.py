"""Whether a drawing can be written, found out before what it shows is computed."""

from __future__ import annotations

import os
from pathlib import Path

from gr00t.cli.errors import UsageError


def check_drawing(path: Path | str, flag: str) -> None:
    """Check that a drawing can be written to `path`.

    Raises:
        UsageError: its ending is no format's, it is a folder, or there is no folder to write it to.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in known:
        raise UsageError(f"{flag} {path}: expected a name that ends with one of {', '.join(known)}")
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{flag} {path}: there is no such folder")
    if Path(path).is_dir():
        raise UsageError(f"{flag} {path}: expected a file, and this is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{flag} {path}: nothing can be written to this folder")
