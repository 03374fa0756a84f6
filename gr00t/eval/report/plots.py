"""Plots as SVG text for an HTML page: the same bytes for the same numbers, in the colours of the page.

matplotlib draws with stand-in colours that are then replaced by the page's CSS variables, so that one drawing
serves light, dark and paper. Letters stay letters: they can be searched, and take the page's font.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from gr00t.eval.statistics.rows import Comparison, Row
from gr00t.eval.statistics.summary import Verdicts
from gr00t.libero.tasks.perturbations import suite_title

# Stand-in colour -> variable of the page. Arms have a colour each, taken in turn.
ARM_COLOURS = 6
_INK, _FAINT, _LINE, _BACK, _BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {_INK: "ink", _FAINT: "faint", _LINE: "line", _BACK: "back", _BAD: "bad"} | {
    f"#0a0a0{n}": f"arm-{n}" for n in range(ARM_COLOURS)
}
_WIDTH = 9.6
# Any: matplotlib types the keys one by one.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gr00t",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _FAINT,
    "ytick.color": _INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
}


def arm_colour(index: int) -> str:
    """The stand-in colour of the arm at this place of `Verdicts.arms`."""
    return f"#0a0a0{index % ARM_COLOURS}"


def success_bars(verdicts: Verdicts) -> str:
    """Success rate of every arm with Wilson's interval: in each suite, and in all of several."""
    suites: list[str | None] = [*verdicts.suites, *([None] if len(verdicts.suites) > 1 else [])]
    arms = list(enumerate(verdicts.arms))
    height = 0.55 + len(suites) * (len(arms) * 0.3 + 0.3)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(height)
        ticks: list[tuple[float, str]] = []
        y = 0.0
        for suite in suites:
            if len(suites) > 1:
                title = suite_title(suite) if suite else "all suites"
                axes.text(0, y - 0.62, title, weight="bold", va="center")
            for index, arm in arms:
                score = verdicts.row(arm.name, suite).score
                if score.rate is not None and score.interval is not None:
                    low, high = 100 * score.interval.low, 100 * score.interval.high
                    axes.barh(
                        y, 100 * score.rate, 0.66, color=arm_colour(index), alpha=_strength(arm.is_control)
                    )
                    axes.plot([low, high], [y, y], color=_INK, linewidth=1.4, solid_capstyle="butt")
                    told = f"{100 * score.rate:.1f} %  ({score.successes}/{score.episodes})"
                    axes.text(max(high, 0) + 1.2, y, told, va="center", fontsize=8.5)
                ticks.append((y, f"{arm.name} (control)" if arm.is_control else arm.name))
                y += 1
            y += 1 if len(suites) > 1 else 0
        axes.set_yticks([tick for tick, _ in ticks], [_clip(name, 34) for _, name in ticks])
        axes.set_ylim(y - 0.4, -1.1 if len(suites) > 1 else -0.6)
        axes.set_xlim(0, 118)
        axes.set_xticks(range(0, 101, 20), [f"{tick} %" for tick in range(0, 101, 20)])
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, "Success rate of every arm, with 95 % intervals")


def forest(verdicts: Verdicts, arm: str) -> str:
    """Paired differences of one arm per task, per suite and in all, with the margin.

    The thin line is the interval of 95 %, the thick one lies between the two one-sided bounds, by which the
    verdict goes.
    """
    rows = [row for row in verdicts.rows if row.arm == arm]
    tasks = [row for row in rows if row.task is not None]
    totals = [row for row in rows if row.task is None and (row.suite is None or len(verdicts.suites) > 1)]
    totals.sort(key=lambda row: row.suite is None)
    drawn = [*tasks, *totals]
    colour = arm_colour([known.name for known in verdicts.arms].index(arm))
    labels = [_label(row, verdicts) for row in drawn]
    spans = [2 if "\n" in label else 1.25 for label in labels]
    places = np.cumsum(spans) - np.array(spans) / 2
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.55 + 0.185 * float(sum(spans)), left=3.5, right=1.45)
        limit = _limit([row.comparison for row in drawn], verdicts.margin)
        axes.axvspan(-limit, -verdicts.margin, color=_BAD, alpha=0.08, linewidth=0)
        axes.axvline(-verdicts.margin, color=_BAD, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.axvline(0, color=_FAINT, linewidth=0.8)
        for row, place in zip(drawn, places, strict=True):
            found = row.comparison
            if found is None:
                axes.text(0, place, "no pairs yet", va="center", ha="center", color=_FAINT)
                continue
            is_total = row.task is None
            _whisker(axes, found, float(place), colour, limit, is_total)
            told = f"{found.wins} won, {found.losses} lost of {found.pairs}"
            axes.text(limit * 1.03, place, told, va="center", fontsize=8, color=_INK if is_total else _FAINT)
        if tasks and totals:
            axes.axhline(float(places[len(tasks)] - spans[len(tasks)] / 2), color=_LINE, linewidth=0.8)
        axes.set_yticks(list(places), labels)
        for label, row in zip(axes.get_yticklabels(), drawn, strict=True):
            label.set_weight("bold" if row.task is None else "normal")
            label.set_fontsize(8)
        axes.set_ylim(float(sum(spans)) + 0.2, -0.2)
        axes.set_xlim(-limit, limit)
        axes.set_xlabel(f"percentage points, {arm} minus {verdicts.baseline}")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, f"Paired differences of {arm} to {verdicts.baseline} per task")


def strip(verdicts: Verdicts, row: Row) -> str:
    """One difference with its interval and the margin: the picture of a verdict."""
    found = row.comparison
    colour = arm_colour([known.name for known in verdicts.arms].index(row.arm))
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.62, width=4.6, left=0.15, right=0.15)
        limit = _limit([found], verdicts.margin)
        axes.axvspan(-limit, -verdicts.margin, color=_BAD, alpha=0.1, linewidth=0)
        axes.axvline(-verdicts.margin, color=_BAD, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.axvline(0, color=_FAINT, linewidth=0.8)
        if found is not None:
            _whisker(axes, found, 0, colour, limit, True)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-1, 1)
        axes.set_xlim(-limit, limit)
        return _svg(figure, f"Difference of {row.arm} to {verdicts.baseline} beside the margin")


def distributions(
    groups: Sequence[tuple[int, str, Sequence[float]]], label: str, title: str, *, logarithmic: bool = False
) -> str:
    """A box per arm: quartiles, whiskers from the 5th to the 95th percentile, and the values above that.

    Args:
        groups: Place in `Verdicts.arms`, name and values of every arm that has some.
        label: Of the axis.
        title: For those who cannot see it.
        logarithmic: Whether the axis is.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.6 + 0.42 * len(groups))
        for place, (index, _, values) in enumerate(groups):
            low, first, median, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            colour = arm_colour(index)
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
            axes.barh(place, third - first, 0.46, left=first, color=colour, alpha=0.55, linewidth=0)
            axes.plot([median, median], [place - 0.23, place + 0.23], color=_INK, linewidth=2)
            axes.plot([high, high], [place - 0.15, place + 0.15], color=colour, linewidth=2)
            above = np.sort(np.asarray(values, dtype=np.float64))[::-1]
            above = above[above > high][:60]
            axes.plot(above, np.full(len(above), place), ".", color=colour, markersize=3, alpha=0.6)
        axes.set_yticks(range(len(groups)), [_clip(name, 34) for _, name, _ in groups])
        axes.set_ylim(len(groups) - 0.45, -0.55)
        if logarithmic:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, title)


def _whisker(axes: Any, found: Comparison, place: float, colour: str, limit: float, is_total: bool) -> None:
    outer, bounds = found.interval, found.bounds
    axes.plot([100 * outer.low, 100 * outer.high], [place, place], color=colour, linewidth=1.2)
    axes.plot(
        [100 * bounds.low, 100 * bounds.high],
        [place, place],
        color=colour,
        linewidth=5 if is_total else 3,
        alpha=0.45,
        solid_capstyle="butt",
    )
    axes.plot(
        100 * found.difference,
        place,
        "D" if is_total else "o",
        color=colour,
        markersize=8 if is_total else 5.5,
        markeredgecolor=_BACK,
        markeredgewidth=1,
    )
    for end, sign in ((outer.low, -1), (outer.high, 1)):
        if abs(100 * end) > limit + 1e-9:
            marker = "<" if sign < 0 else ">"
            axes.plot(sign * limit, place, marker, color=colour, markersize=5, clip_on=False)


def _limit(comparisons: Sequence[Comparison | None], margin: float) -> float:
    """Where the axis ends: at all intervals, in round numbers, and well beyond the margin."""
    ends = [abs(100 * end) for c in comparisons if c for end in (c.interval.low, c.interval.high)]
    furthest = max([*ends, 2 * margin])
    return float(next((limit for limit in (5, 10, 15, 20, 30, 40, 60, 80) if limit >= furthest), 100))


def _label(row: Row, verdicts: Verdicts) -> str:
    if row.task is None:
        return suite_title(row.suite) if row.suite else "all"
    suite = "" if len(verdicts.suites) == 1 else f"{row.suite} "
    lines = textwrap.wrap(f"{suite}{row.task}  {row.language}", 60)
    return "\n".join(lines[:2]) + (" ..." if len(lines) > 2 else "")


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _strength(is_control: bool) -> float:
    return 0.35 if is_control else 0.85


def _figure(
    height: float, width: float = _WIDTH, left: float = 2.4, right: float = 0.3
) -> tuple[Figure, Any]:
    """A figure with one pair of axes; all in inches, the margins beside the axes too."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    axes = figure.add_axes((left / width, 0.42 / height, 1 - (left + right) / width, 1 - 0.47 / height))
    axes.patch.set_visible(False)
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    """Text of the drawing, without what only a file of its own needs."""
    buffer = io.StringIO()
    figure.patch.set_visible(False)
    for text in figure.findobj(Text):
        # An arm may be called $x$.
        text.set_parse_math(False)
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    # Only ids with a hash are referred to; the others would be there once per plot.
    drawn = re.sub(r' id="[a-zA-Z0-9]+(?:\.[a-z]+)?_\d+"', "", drawn)
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r" ?font-family: [^;\"]*;?", "", drawn)
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn)
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, f"var(--{variable})")
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return drawn.replace("<svg", f'<svg role="img" aria-label="{safe}"', 1).strip()
