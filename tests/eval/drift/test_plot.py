"""The drawing. Oracle: the figures that it is given."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from gr00t.eval.drift.measure import Drift
from gr00t.eval.drift.plot import draw
from gr00t.eval.statistics.intervals import Interval


def drift(err: float, low: float, high: float) -> Drift:
    return Drift(err, Interval(low, high), err, None, None, [err, 2 * err, 3 * err], [err])


def test_every_arm_has_its_figures_and_one_without_error_its_place() -> None:
    figure = Figure()
    draw(figure, {"same": drift(0.0, 0.0, 0.0), "worse": drift(0.2, 0.1, 0.4)}, 2, "judged by nothing")
    of_all, by_step = figure.axes
    assert [label.get_text() for label in of_all.get_yticklabels()] == ["same", "worse"]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in of_all.lines]
    # An interval and a point for each, then the thresholds.
    assert drawn == [[1e-6, 1e-6], [1e-6], [0.1, 0.4], [0.2], [0.08, 0.08], [0.13, 0.13]]
    assert [text.get_text() for text in of_all.texts] == ["0.0000", "0.2000"]
    assert [np.asarray(line.get_ydata()).tolist() for line in by_step.lines] == [
        [1e-6, 1e-6, 1e-6],
        [0.2, 0.4, 0.2 * 3],
    ]
    assert "fitted on the demonstration policy" in of_all.get_xlabel()
