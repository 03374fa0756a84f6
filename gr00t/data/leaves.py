"""Looking at what a client sent without building anything as large as it claims to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gr00t.data.errors import ObservationError


def leaves(value: Any) -> Iterator[Any]:
    """Yield what a list holds, at whatever depth, or an array; or the value itself.

    Of an array of numbers, which has nothing to hide, the array is yielded.
    """
    if isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, np.ndarray) and value.dtype.kind not in "fiubc":
        yield from (entry.item() if isinstance(entry, np.generic) else entry for entry in value.flat)
    else:
        yield value


def array_of(key: str, value: Any) -> np.ndarray:
    """Return a value as an array.

    Raises:
        ObservationError: lists of different lengths, or something that cannot be one.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ObservationError(f"{key}: expected an array, got lists of different lengths") from error
    except TypeError as error:  # a tensor on a GPU, or of a type that numpy lacks
        raise ObservationError(f"{key}: cannot be made an array: {error}") from error


def numbers_of(key: str, value: Any) -> np.ndarray:
    """Return numbers, of whatever kind and shape, as an array.

    Raises:
        ObservationError: there is something else among them.
    """
    # numpy makes texts in a list as long as the longest of them: a small list can take all memory there is.
    if isinstance(value, str | bytes) or any(isinstance(leaf, str | bytes) for leaf in leaves(value)):
        raise ObservationError(f"{key}: expected an array of numbers, got {kind_of(value)}")
    array = array_of(key, value)
    if array.dtype.kind not in "fiu":
        raise ObservationError(f"{key}: expected an array of numbers, got {kind_of(value)}")
    return array


def kind_of(value: Any) -> str:
    """Return what an error calls a value."""
    return f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
