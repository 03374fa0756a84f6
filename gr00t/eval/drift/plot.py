"""The drift of arms as a drawing: err with its interval, and err of each step of the horizon."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gr00t.eval.drift.measure import Drift
from gr00t.eval.drift.verdict import FITTED_ON, PASS_UP_TO, REJECT_FROM

_COLOURS = ("#d1495b", "#2e6f95", "#5a9367", "#e08e45", "#7d5ba6", "#8c6d46", "#3d9ea8", "#b0558f")
_MARKERS = ("o", "s", "^", "D", "v")
_THRESHOLD = "#444444"
_SIZE = (11.5, 0.34, 2.6)  # inches: width, height of an arm, and of the rest
_LEAST = 1e-6  # on a logarithmic axis; an arm without error stands at its end


def draw(figure: Figure, drifts: Mapping[str, Drift], executed: int, title: str) -> None:
    """Draw the arms into an empty figure, and give it its size.

    Args:
        figure: empty.
        drifts: by the arms' names.
        executed: actions of a chunk that a robot executes, of which err is.
        title: what was judged, and by what.
    """
    figure.set_size_inches(_SIZE[0], max(4.2, _SIZE[1] * len(drifts) + _SIZE[2]))
    of_all, by_step = figure.subplots(1, 2)
    _draw_all(of_all, drifts)
    _draw_steps(by_step, drifts, executed)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()


def _draw_all(axes: Axes, drifts: Mapping[str, Drift]) -> None:
    for place, (name, found) in enumerate(drifts.items()):
        colour, marker = _look(place)
        ends = np.maximum([found.interval.low, found.interval.high], _LEAST)
        axes.plot(ends, [place, place], color=colour, linewidth=2.0)
        axes.plot(max(found.err, _LEAST), place, marker, color=colour, markersize=6, label=name)
        axes.annotate(
            f"{found.err:.4f}",
            (ends[1], place),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
    for threshold in (PASS_UP_TO, REJECT_FROM):
        axes.axvline(threshold, color=_THRESHOLD, linestyle="--", linewidth=0.9)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.16)  # room for the figures
    axes.set_yticks(range(len(drifts)), list(drifts))
    axes.set_ylim(len(drifts) - 0.5, -0.5)
    axes.set_xlabel(
        f"err, 95 % over episodes; dashed: pass up to {PASS_UP_TO:g}, reject from {REJECT_FROM:g},\n"
        f"fitted on {FITTED_ON}",
        fontsize=9,
    )
    _plain(axes)


def _draw_steps(axes: Axes, drifts: Mapping[str, Drift], executed: int) -> None:
    for place, (name, found) in enumerate(drifts.items()):
        colour, marker = _look(place)
        steps = np.arange(len(found.by_step))
        values = np.maximum(found.by_step, _LEAST)
        axes.plot(steps, values, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name)
    horizon = max(len(found.by_step) for found in drifts.values())
    if executed < horizon:
        axes.axvspan(executed - 0.5, horizon - 0.5, color="#000000", alpha=0.06, linewidth=0)
    axes.set_yscale("log")
    axes.set_xlim(-0.5, horizon - 0.5)
    axes.set_xlabel("step of the horizon (shaded: not executed)", fontsize=9)
    axes.set_ylabel("err of the step alone", fontsize=9)
    axes.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _plain(axes)


def _look(place: int) -> tuple[str, str]:
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place // len(_COLOURS) % len(_MARKERS)]


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
