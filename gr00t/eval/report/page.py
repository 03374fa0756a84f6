"""The report as one HTML page: nothing is fetched, nothing needs a script, everything is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gr00t.eval.report import facts, plots
from gr00t.eval.report.gallery import BUDGET_BYTES, galleries
from gr00t.eval.statistics.rows import ComparedArm
from gr00t.eval.statistics.runs import Run
from gr00t.eval.statistics.summary import Verdicts
from gr00t.eval.statistics.tables import (
    drop_rows,
    look_rows,
    motion_rows,
    smoothness_rows,
    success_rows,
    task_rows,
    verdict_rows,
)
from gr00t.eval.statistics.words import CONTROL_REASONS, notes, percent, points, sentence
from gr00t.libero.tasks.perturbations import suite_title


def render_page(verdicts: Verdicts, runs: Sequence[Run], page: Path, budget: int = BUDGET_BYTES) -> str:
    """The page.

    Args:
        verdicts: What it says.
        runs: Where its pictures and configurations are.
        page: The file that it will be, for links to what is too large to be put in.
        budget: Bytes of pictures and videos in it.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    others = [arm for arm in verdicts.arms if arm.name != verdicts.baseline]
    judged = [arm for arm in others if not arm.is_control]
    return environment.get_template("page.html.j2").render(
        verdicts=verdicts,
        cards=[_card(arm, verdicts) for arm in judged],
        notes=notes(verdicts, runs),
        controls=[_control(arm, verdicts) for arm in verdicts.arms if arm.is_control],
        success_plot=Markup(plots.success_bars(verdicts)),
        forests=[(arm, Markup(plots.forest(verdicts, arm.name))) for arm in judged],
        motion_plots=[Markup(plot) for plot in _motion_plots(verdicts, runs)],
        success_table=success_rows(verdicts),
        verdict_table=verdict_rows(verdicts),
        look_table=look_rows(verdicts),
        drop_table=drop_rows(verdicts),
        motion_table=motion_rows(verdicts),
        smoothness_table=smoothness_rows(verdicts),
        task_table=task_rows(verdicts),
        galleries=galleries(verdicts, runs, page, budget),
        quantization=facts.quantization(verdicts, runs),
        configuration=facts.configuration(verdicts, runs),
        protocol=facts.protocol(runs),
        compared=facts.compared(verdicts),
        colours={arm.name: index % plots.ARM_COLOURS for index, arm in enumerate(verdicts.arms)},
        baseline=verdicts.row(verdicts.baseline),
        titles=list(map(suite_title, verdicts.suites)),
        suite_title=suite_title,
        percent=percent,
        points=points,
    )


def _card(arm: ComparedArm, verdicts: Verdicts) -> dict[str, Any]:
    """What the head of the page says about one arm: in all, and in every suite if there are several."""
    row = verdicts.row(arm.name)
    suites = [verdicts.row(arm.name, suite) for suite in verdicts.suites]
    return {
        "arm": arm,
        "row": row,
        "found": row.comparison,
        "outcome": row.comparison.judgement.outcome if row.comparison else "undecided",
        "sentence": sentence(row, verdicts),
        "strip": Markup(plots.strip(verdicts, row)),
        "suites": suites if len(suites) > 1 else [],
        "expected": suites[0].comparison if len(suites) == 1 else None,
    }


def _control(arm: ComparedArm, verdicts: Verdicts) -> dict[str, Any]:
    return {"arm": arm, "row": verdicts.row(arm.name), "reason": CONTROL_REASONS[arm.kind]}


def _motion_plots(verdicts: Verdicts, runs: Sequence[Run]) -> list[str]:
    """Jerk of episodes and time of queries, of the arms that have any."""
    jerks: list[tuple[int, str, list[float]]] = []
    times: list[tuple[int, str, list[float]]] = []
    for index, arm in enumerate(verdicts.arms):
        played = [r for run in runs for r in run.records if r.key.arm == arm.name and r.was_played]
        jerks.append((index, arm.name, [record.outcome.jerk for record in played]))
        times.append((index, arm.name, [ms for record in played for ms in record.timing.query_ms]))
    drawn = []
    for groups, label, title in (
        (jerks, "jerk of an episode", "Jerk of the episodes of every arm"),
        (times, "milliseconds per query", "Milliseconds per query of every arm"),
    ):
        found = [group for group in groups if group[2]]
        if found:
            drawn.append(plots.distributions(found, label, title))
    return drawn
