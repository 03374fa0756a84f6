"""Bits and error share of every layer, side by side, layers from top to bottom in model order."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gr00t.eval.allocation.budget import bits_per_weight
from gr00t.eval.allocation.outcome import Outcome

_BITS, _SHARE, _MOST = "#35618f", "#d1495b", 8
_LAYER_HEIGHT, _HEADING = 0.17, 1.3  # inches


def draw(figure: Figure, outcome: Outcome) -> None:
    """Draw an allocation into an empty figure, and give it its size."""
    names = list(outcome.shapes)
    allocation, measured = outcome.chosen.allocation, outcome.chosen.error
    figure.set_size_inches(10.5, _LAYER_HEIGHT * len(names) + _HEADING)
    bits, share = figure.subplots(1, 2, sharey=True)
    _bars(bits, [allocation.chosen[name].bits for name in names], _BITS, "d")
    _bars(share, [100 * allocation.share(name) for name in names], _SHARE, ".1f")
    bits.set_yticks(range(len(names)), names, fontsize=6.5)
    bits.set_ylim(len(names) - 0.4, -0.6)
    bits.set_xlim(0, _MOST + 0.8)
    bits.set_xlabel("bits of a weight", fontsize=9)
    share.set_xlabel("share of the summed squared error, %", fontsize=9)
    of_all = bits_per_weight(allocation.stored, outcome.weights)
    figure.suptitle(
        f"{outcome.name}: {allocation.stored:,} bytes, {of_all:.3f} bits a weight; "
        f"err {measured:.4f}, predicted {allocation.predicted:.4f}",
        fontsize=10,
    )
    figure.tight_layout()


def save(path: Path, outcome: Outcome) -> None:
    """Write the drawing as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    figure = Figure()
    draw(figure, outcome)
    figure.savefig(path, dpi=110, format="png")


def _bars(axes: Axes, values: list[float], colour: str, form: str) -> None:
    bars = axes.barh(range(len(values)), values, height=0.8, color=colour)
    axes.bar_label(bars, [f"{value:{form}}" for value in values], padding=2, fontsize=6)
    axes.grid(axis="x", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
