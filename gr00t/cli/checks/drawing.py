"""Whether a drawing can be written, found out before what it shows is computed."""

from __future__ import annotations

from pathlib import Path

from gr00t.cli.errors import UsageError


def check_drawing(path: Path | str, flag: str) -> None:
    """Check that a drawing can be written to `path`.

    Raises:
        UsageError: its ending is no format's, or there is no such folder.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in known:
        raise UsageError(f"{flag} {path}: expected a name that ends with one of {', '.join(known)}")
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no such folder")
