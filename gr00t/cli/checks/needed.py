"""What a command needs of the optional packages, and how they are installed: here, as this project was."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import gr00t
from gr00t.cli.errors import UsageError

# Where a module's package has another name.
_PACKAGES = {"PIL": "pillow"}


def how_to_install(*groups: str) -> str:
    """Return the command for groups of pyproject.toml: a checkout has a script that a wheel has not."""
    if (Path(gr00t.__file__).parents[1] / "scripts" / "setup_env.sh").is_file():
        return f"scripts/setup_env.sh {' '.join(groups)}"
    return f"pip install 'gr00t-duquant[{','.join(group for group in groups if group != 'core')}]'"


def check_installed(modules: Iterable[str], *groups: str) -> None:
    """Find out, without importing them, whether modules are there.

    Args:
        modules: by the names that they are imported by.
        groups: of pyproject.toml, which bring them.

    Raises:
        UsageError: one is not.
    """
    missing = [_PACKAGES.get(name, name) for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed; run: {how_to_install(*groups)}")
