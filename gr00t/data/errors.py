"""The errors that a request or a checkpoint's data description can cause."""

from __future__ import annotations


class ObservationError(ValueError):
    """An observation that cannot be served; the message names the key, what was expected and what was got."""


class MetadataError(ValueError):
    """A metadata.json that is missing, malformed or does not know the embodiment asked for."""


class TransformError(ValueError):
    """A transform that cannot be built; the message names the field, what it takes and what it got."""


def shown(key: object) -> str:
    """The first sixty characters of a key that a client sent, for an error that names it."""
    return str(key)[:60]
