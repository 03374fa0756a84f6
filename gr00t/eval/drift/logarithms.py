"""The geometric mean of relative errors, of which some may be exactly zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Half the distance from 1 to the next float32: an error below it is none that an action, a float32, can show.
SMALLEST = 2.0**-24


def log_errors(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of errors, those below `SMALLEST` as if they were that: one zero does not outweigh all."""
    return np.log(np.maximum(errors, SMALLEST))


def geometric_mean(errors: NDArray[np.float64]) -> float:
    """The geometric mean of errors, (N,); 0 where all of them are."""
    if not errors.any():
        return 0.0
    return float(np.exp(log_errors(errors).mean()))
