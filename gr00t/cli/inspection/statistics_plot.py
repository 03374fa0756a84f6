"""Every number of every state and action as a histogram with the statistics that normalize it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gr00t.cli.inspection.statistics import Dimension, folded, label_of

_COLUMNS = 5
_BINS = 48
_PANEL = (2.75, 1.55)  # inches
_HEAD, _FOOT = 0.55, 0.1
# A humanoid with two hands has some 60 numbers of state and 50 of action; a picture of more is not read.
_MOST = 300
_COLOURS = {"usual": "#4c72b0", "outliers": "#c77700", "flat": "#b3261e"}
_STYLE: Any = {
    "font.size": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "xtick.major.size": 2,
    "xtick.major.width": 0.6,
}


def statistics_plot(
    numbers: Mapping[str, NDArray[np.float32]],
    dimensions: Mapping[str, Sequence[Dimension]],
    title: str,
    path: Path,
) -> None:
    """Draw a panel for each number and write the picture.

    Args:
        numbers: of each key, (N, A).
        dimensions: of each key, its A numbers described.
        title: of the picture.
        path: of the file.
    """
    panels = [
        (label_of(group, len(dimensions[key])), group, numbers[key][:, group[0].place])
        for key in numbers
        for group in folded(dimensions[key])
    ]
    left_out = len(panels) - _MOST
    panels = panels[:_MOST]
    rows = math.ceil(len(panels) / _COLUMNS)
    with matplotlib.rc_context(_STYLE):
        height = rows * _PANEL[1] + _HEAD + _FOOT
        figure = Figure(figsize=(_COLUMNS * _PANEL[0], height), dpi=110)
        FigureCanvasAgg(figure)
        for number, (label, group, values) in enumerate(panels):
            row, column = divmod(number, _COLUMNS)
            box = (
                (column + 0.06) / _COLUMNS,
                (height - _HEAD - (row + 0.7) * _PANEL[1]) / height,
                0.88 / _COLUMNS,
                0.5 * _PANEL[1] / height,
            )
            _panel(figure.add_axes(box), label, group, values)
        more = f"; {left_out} more numbers are left out" if left_out > 0 else ""
        head = f"{title}: {len(numbers)} keys over {len(next(iter(numbers.values()))):,} rows{more}"
        figure.text(0.012, 1 - 0.2 / height, head, fontsize=9, weight="bold", va="center", parse_math=False)
        figure.text(
            0.012,
            1 - 0.4 / height,
            "histogram from min to max, bars by the square root of their rows; shaded: q01 to q99; line: "
            "mean. Orange: few rows lie far from all others. Red: always the same.",
            fontsize=7.5,
            color="#555555",
            va="center",
        )
        figure.savefig(path)


def _panel(axes: Any, label: str, group: Sequence[Dimension], values: NDArray[np.float32]) -> None:
    described = group[0]
    colour = _COLOURS[described.kind]
    axes.set_title(
        _clip(label, 46),
        fontsize=7.5,
        loc="left",
        color="#1a1a1a" if described.kind == "usual" else colour,
        weight="normal" if described.kind == "usual" else "bold",
        parse_math=False,
        pad=3,
    )
    axes.set_yticks([])
    low, high = described.minimum, described.maximum
    if described.kind == "flat":
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        told = ", ".join(dict.fromkeys(f"{each.minimum:.4g}" for each in group))
        shown = (
            f"always {_clip(told, 60)}"
            if len(group) == 1
            else f"{len(group)} numbers, always {_clip(told, 40)}"
        )
        axes.text(0.5, 0.5, shown, transform=axes.transAxes, ha="center", va="center", color=colour)
        return
    counts, edges = np.histogram(values.astype(np.float64), bins=_BINS, range=(low, high))
    # By the square root: a bar of few rows stays visible beside one of nearly all.
    axes.stairs(np.sqrt(counts), edges, fill=True, color=colour)
    axes.axvspan(described.q01, described.q99, color=colour, alpha=0.13, linewidth=0)
    axes.axvline(described.mean, color="#1a1a1a", linewidth=0.9)
    room = 0.02 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.set_xticks([low, high], [f"{low:.3g}", f"{high:.3g}"])
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    inner = f"q01 {described.q01:.3g}   mean {described.mean:.3g}   q99 {described.q99:.3g}"
    axes.text(
        0.5, -0.34, inner, transform=axes.transAxes, ha="center", va="top", color="#555555", fontsize=6.8
    )


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
