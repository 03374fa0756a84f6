"""The nearest right spelling, for error messages."""

from __future__ import annotations

import difflib
from typing import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the known name closest to `name`, else the list of all of them.

    A suggestion is only made above difflib's default similarity: a far-fetched one misleads more than a list.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
