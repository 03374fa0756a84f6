"""Statistics of every number of states and actions, and which of them make training harder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gr00t.data.lerobot.meta.features import names_of
from gr00t.data.lerobot.meta.layout import Layout

# min_max gives the middle 98 % of all rows this share of [-1, 1] or less: the rest is room for few.
_CROWDED = 0.25


@dataclass(frozen=True)
class Dimension:
    """One number of a state or an action over all rows.

    Attributes:
        key: of the state or action.
        place: in it.
        name: that the data set has for it, or nothing.
        kind: `flat` (one value), `outliers` (few rows far from all others) or `usual`.
        remark: that in words; empty for a usual one.
    """

    key: str
    place: int
    name: str
    minimum: float
    q01: float
    mean: float
    q99: float
    maximum: float
    std: float
    kind: str
    remark: str


def dimensions_of(layout: Layout, key: str, values: NDArray[np.float32]) -> list[Dimension]:
    """Describe each column of the values (N, A) of a key."""
    column = layout.modality.columns[key]
    names = names_of(layout.features, column.original_key)
    exact = values.astype(np.float64)
    lows, highs = np.quantile(exact, [0.01, 0.99], axis=0)
    found = []
    for place in range(exact.shape[1]):
        numbers = exact[:, place]
        low, high = float(numbers.min()), float(numbers.max())
        first, last = float(lows[place]), float(highs[place])
        kind, remark = _remark(low, first, last, high)
        found.append(
            Dimension(
                key=key,
                place=place,
                name=names[column.start + place] if column.start + place < len(names) else "",
                minimum=low,
                q01=first,
                mean=float(numbers.mean()),
                q99=last,
                maximum=high,
                std=float(numbers.std()),
                kind=kind,
                remark=remark,
            )
        )
    return found


def folded(dimensions: Sequence[Dimension]) -> Iterator[list[Dimension]]:
    """The numbers of one key, neighbours that never change together: a leg that stands has six of them."""
    for flat, group in itertools.groupby(dimensions, key=lambda each: each.kind == "flat"):
        if flat:
            yield list(group)
        else:
            yield from ([each] for each in group)


def label_of(group: Sequence[Dimension], width: int) -> str:
    """How one or more numbers of a key of `width` numbers are called: `state.arm[0] shoulder`."""
    first, last = group[0], group[-1]
    if len(group) == width:
        where = ""
    else:
        where = f"[{first.place}]" if len(group) == 1 else f"[{first.place}:{last.place + 1}]"
    name = f" {first.name}" if first.name and len(group) == 1 else ""
    return f"{first.key}{where}{name}"


def _remark(low: float, first: float, last: float, high: float) -> tuple[str, str]:
    if low == high:
        return "flat", f"always {low:g}"
    share = (last - first) / (high - low)
    if share <= _CROWDED:
        return "outliers", f"98 % of all rows lie in {100 * share:.2g} % of the range"
    return "usual", ""
