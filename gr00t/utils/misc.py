"""Descriptions of nested samples, for notebooks."""

from __future__ import annotations

import pprint
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def any_describe_str(x: Any, shape_only: bool = False) -> str:
    """Say in one line what a value is: its shape, and dtype and device unless only the shape is wanted."""
    if isinstance(x, str):
        return x
    if isinstance(x, np.ndarray | torch.Tensor):
        kind = "np" if isinstance(x, np.ndarray) else "torch"
        size = x.size if isinstance(x, np.ndarray) else x.numel()
        text = f"{kind} scalar: {x.item()} {list(x.shape)}" if size == 1 else f"{kind}: {list(x.shape)}"
        if shape_only:
            return text
        return f"{text} {x.dtype}" if kind == "np" else f"{text} {x.dtype} {x.device}"
    if isinstance(x, Sequence):
        return f"{type(x).__name__}[{len(x)}]"
    if isinstance(x, np.number | np.bool_):
        return f"{type(x).__name__}: {x}"
    return "None" if x is None else type(x).__name__


def any_describe(x: Any, msg: str = "", *, shape_only: bool = False) -> None:
    """Write to standard output what every part of a nested value is."""
    if isinstance(x, str) and msg:
        x, msg = msg, x
    prefix = f"{msg}: " if msg else ""
    sys.stdout.write(prefix + pprint.pformat(_described(x, shape_only)) + "\n")


def _described(x: Any, shape_only: bool) -> Any:
    """The same structure of dicts, lists and tuples, with a line in the place of each value."""
    if isinstance(x, dict):
        return {key: _described(value, shape_only) for key, value in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_described(value, shape_only) for value in x))
    if isinstance(x, list | tuple):
        return type(x)(_described(value, shape_only) for value in x)
    return any_describe_str(x, shape_only)
