"""Names of Isaac-GR00T N1.5 that this project does not have: asking for one says what to use.

Kept free of torch, and runs on Python 3.8, as `gr00t.data.dataset` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def missing_names(module: str, use_instead: dict[str, str]) -> Callable[[str], Any]:
    """Return a module's `__getattr__`.

    Args:
        module: its name.
        use_instead: names that N1.5 has there, and what serves here.

    Returns:
        A function that raises ImportError for these names and AttributeError for all others.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name in use_instead:
            raise ImportError(
                f"{module}: this project has no {name} of Isaac-GR00T N1.5; use {use_instead[name]}"
            )
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__
