"""What error messages say of a value: the nearest right spelling, and its own text, cut short."""

from __future__ import annotations

import difflib
from typing import Any, Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the known name closest to `name`, else the list of all of them.

    A suggestion is only made above difflib's default similarity: a far-fetched one misleads more than a list.
    A list of more than 24 names is cut short.
    """
    names = sorted(known)
    by_letters = {candidate.lower(): candidate for candidate in names}  # wbits is as near to WBITS as can be
    close = difflib.get_close_matches(name.lower(), by_letters, n=1)
    if close:
        return f"did you mean {by_letters[close[0]]}?"
    more = f", ... {len(names)} in all" if len(names) > 24 else ""
    return f"known: {', '.join(names[:24]) or 'none'}{more}"


def shown(value: Any, most: int = 80) -> str:
    """Return the value as Python writes it, of which more than `most` characters are cut off."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
