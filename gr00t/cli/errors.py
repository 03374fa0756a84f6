"""The error of a command line that cannot be followed."""

from __future__ import annotations


class UsageError(ValueError):
    """Flags or settings that do not make sense, or not together: a command says so and ends with status 2."""
