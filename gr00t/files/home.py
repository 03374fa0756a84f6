"""`~` in a path: shells leave it as it is in a variable and in a flag, and Python always does."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with the home of `~` written out; one that is nobody's home stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
