"""Recorded and predicted actions over time: a row of panels for each number, a column for each episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gr00t.eval.open_loop import Followed

_RECORDED, _PREDICTED, _STATE = "#444444", "#d1495b", "#7fb2d0"
_PANEL = (5.2, 1.35)  # inches
_HEADING = 0.9


def draw(figure: Figure, episodes: Sequence[Followed]) -> None:
    """Draw episodes of the same numbers into an empty figure, and give it its size."""
    names = episodes[0].columns
    height = _PANEL[1] * len(names) + _HEADING
    figure.set_size_inches(_PANEL[0] * len(episodes) + 0.6, height)
    axes = figure.subplots(len(names), len(episodes), squeeze=False, sharex="col", sharey="row")
    for column, episode in enumerate(episodes):
        for row, name in enumerate(names):
            _panel(axes[row, column], episode, row)
            if column == 0:
                axes[row, 0].set_ylabel(name, fontsize=9)
        error = episode.error
        axes[0, column].set_title(
            f"episode {episode.episode}: MSE {error.mse:.6g}, MAE {error.mae:.6g}", fontsize=10
        )
        axes[-1, column].set_xlabel("time step", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / height))


def save(path: str, episodes: Sequence[Followed]) -> None:
    """Write the drawing to a file, in the format that its name says.

    Raises:
        OSError: it cannot be written.
        ValueError: there is no such format.
    """
    figure = Figure()
    draw(figure, episodes)
    figure.savefig(path, dpi=110)


def _panel(axes: Axes, episode: Followed, number: int) -> None:
    steps = np.arange(len(episode.recorded))
    if episode.states is not None:
        axes.plot(steps, episode.states[:, number], color=_STATE, linewidth=1.2, label="state")
    axes.plot(steps, episode.recorded[:, number], color=_RECORDED, linewidth=2.0, label="recorded")
    axes.plot(steps, episode.predicted[:, number], color=_PREDICTED, linewidth=1.2, label="predicted")
    asked = steps[:: episode.horizon]
    axes.plot(
        asked, episode.predicted[asked, number], "o", color=_PREDICTED, markersize=3.5, label="policy asked"
    )
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
