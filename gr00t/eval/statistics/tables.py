"""The verdict as tables, once for all forms: the terminal's text, Markdown, and the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gr00t.eval.statistics.intervals import Interval
from gr00t.eval.statistics.rows import Comparison, Row
from gr00t.eval.statistics.smoothness import MEASURES
from gr00t.eval.statistics.summary import Verdicts
from gr00t.eval.statistics.words import mixed, p_value, percent, points, progress, sentence, simulator
from gr00t.libero.tasks.perturbations import PERTURBATIONS, suite_title


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: What it shows.
        header: Names of the columns.
        rows: Cells, as many per row as the header has.
        words: How many of the first columns are words, set to the left; numbers go to the right.
        small_print: What the columns mean.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int
    small_print: str = ""

    def as_text(self) -> str:
        """Aligned columns."""
        widths = [max(len(line[i]) for line in [self.header, *self.rows]) for i in range(len(self.header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < self.words else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in [self.header, *self.rows]
        ]
        return "\n".join([self.title, *lines])

    def as_markdown(self) -> str:
        """A table of GitHub's Markdown; nothing in a cell is taken for markup."""
        rule = ["---" if column < self.words else "---:" for column in range(len(self.header))]
        lines = [list(map(literal, self.header)), rule, *(list(map(literal, row)) for row in self.rows)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join(part for part in (f"## {self.title}", table, self.small_print) if part)


def all_tables(verdicts: Verdicts) -> list[Table]:
    """Success, the verdict, perturbations, motion and speed, and every task."""
    tables = [
        success_rows(verdicts),
        verdict_rows(verdicts),
        look_rows(verdicts),
        drop_rows(verdicts),
        motion_rows(verdicts),
        smoothness_rows(verdicts),
        task_rows(verdicts),
    ]
    return [table for table in tables if table.rows]


def verdict_table(verdicts: Verdicts) -> str:
    """All tables as text for the terminal, what played, and a sentence per arm last."""
    told = [
        sentence(verdicts.row(arm.name), verdicts) for arm in verdicts.arms if arm.name != verdicts.baseline
    ]
    # What is said last is read first; a warning belongs to the sentence that it qualifies.
    told = [
        *filter(None, [simulator(verdicts)]),
        *mixed(verdicts),
        *told,
        *filter(None, [progress(verdicts)]),
    ]
    parts = [table.as_text() for table in reversed(all_tables(verdicts))]
    return "\n\n".join([*parts, "\n".join(told)]).rstrip()


def success_rows(verdicts: Verdicts) -> Table:
    """Every arm in every suite, and in all of them where there are several."""
    rows = []
    for row in _rows(verdicts):
        score = row.score
        rows.append(
            [
                row.arm,
                _part(row),
                f"{score.successes}/{score.episodes}",
                percent(score.rate),
                _rates(score.interval),
                f"{score.lifted_wrong}/{score.episodes}",
                _rates(score.lifted_wrong_interval),
                str(score.seeds),
                str(row.planned),
                str(score.simulator_errors),
            ]
        )
    return Table(
        "Success",
        (
            "arm",
            "suite",
            "solved",
            "rate",
            "95 %",
            "wrong object lifted",
            "95 %",
            "seeds",
            "planned",
            "lost to the simulator",
        ),
        rows,
        words=2,
        small_print="Rates with Wilson's interval, which takes episodes that differ in their seed alone for "
        "independent; an episode that the simulator lost twice is in no rate. "
        "Wrong object lifted: episodes in which something rose by 4 cm that the task does not speak of.",
    )


def verdict_rows(verdicts: Verdicts) -> Table:
    """Every arm against the baseline, in every suite, and in all of them where there are several."""
    header = (
        "arm",
        "suite",
        "verdict",
        "pairs",
        "difference",
        "95 %",
        "won / lost",
        "McNemar p",
        "retention",
        "95 %",
        "expected of W4A8",
    )
    controls = {arm.name for arm in verdicts.arms if arm.is_control}
    return Table(
        f"Against {verdicts.baseline}, at a margin of {verdicts.margin:g} points",
        header,
        [_verdict_row(row, row.arm in controls) for row in _rows(verdicts) if row.arm != verdicts.baseline],
        words=3,
        small_print="Differences in percentage points over pairs, with the wider end of a bootstrap over "
        "tasks and Tango's score interval. Retention in percent of the baseline's success, beside what the "
        "documentation expects.",
    )


def _verdict_row(row: Row, is_control: bool) -> list[str]:
    found = row.comparison
    if found is None:
        return [row.arm, _part(row), "nothing to compare yet", "0", *["-"] * 7]
    return [
        row.arm,
        _part(row),
        "control" if is_control else str(found.judgement),
        f"{found.pairs}" if found.pairs == found.planned else f"{found.pairs} of {found.planned}",
        points(found.difference),
        f"{points(found.interval.low)} to {points(found.interval.high)}",
        f"{found.wins} / {found.losses}",
        p_value(found.mcnemar),
        "-" if found.retention is None else f"{found.retention:.1f} %",
        _percents(found.retention_interval),
        _percents(found.expected_retention),
    ]


def look_rows(verdicts: Verdicts) -> Table:
    """The last look at every arm of runs that play until they are decided."""
    rows = [
        [
            look.arm,
            suite_title(look.suite),
            look.decision,
            f"{look.number} of {look.of}",
            f"{look.pairs} of at most {look.most}",
            f"{look.critical:.2f}",
            points(look.difference),
            f"{points(look.bounds.low)} to {points(look.bounds.high)}",
        ]
        for look in verdicts.looks
    ]
    return Table(
        "Looks until decided",
        ("arm", "suite", "decision", "look", "pairs", "z", "difference", "bounds"),
        rows,
        words=3,
        small_print="When to look was fixed before the first episode. Bounds are those of the look, by its "
        "own critical value of z: those of all looks together hold with one-sided 95 % (alpha spending; "
        "the wider end of Tango's and of Student's over tasks). Intervals of 95 % in other tables are those "
        "of a fixed number of pairs and take no account of the looks; of a run that ended when it looked "
        "good they are somewhat too good. Hopeless: the pairs that were left would have brought a decision "
        "in fewer than one of twenty runs.",
    )


def drop_rows(verdicts: Verdicts) -> Table:
    """Every arm under each perturbation against itself in the base suite, and against the baseline there."""
    rows = []
    for drop in verdicts.drops:
        rows.append(
            [
                drop.arm,
                drop.base,
                PERTURBATIONS[drop.perturbation].title,
                f"{drop.base_successes}/{drop.base_episodes}, {percent(drop.base_rate)}",
                f"{drop.successes}/{drop.episodes}, {percent(drop.rate)}",
                f"{100 * drop.drop:.1f}",
                f"{100 * drop.interval.low:.1f} to {100 * drop.interval.high:.1f}",
                *_paired(drop.against_baseline_in_base)[:1],
                *_paired(drop.against_baseline),
            ]
        )
    known = dict.fromkeys(PERTURBATIONS[drop.perturbation] for drop in verdicts.drops)
    meant = "; ".join(f"{found.title}: {found.effect}" for found in known)
    header = (
        *("arm", "base", "perturbation", "solved in base", "solved", "drop", "95 %"),
        *(f"to {verdicts.baseline} in base", f"to {verdicts.baseline}", "95 %"),
    )
    return Table(
        "Base against each perturbation",
        header,
        rows,
        words=3,
        small_print=f"LIBERO-PRO. {meant}. Drops in points, over the tasks played in both suites; the "
        "initial states differ, so that a drop is unpaired: the wider end of Newcombe's interval and of "
        f"Student's over tasks. To {verdicts.baseline}: paired differences, as in the table of verdicts.",
    )


def _paired(found: Comparison | None) -> list[str]:
    if found is None:
        return ["-", "-"]
    return [points(found.difference), f"{points(found.interval.low)} to {points(found.interval.high)}"]


def motion_rows(verdicts: Verdicts) -> Table:
    """How the arms move, and how long their servers take."""
    rows = []
    for row in _rows(verdicts):
        score, found = row.score, row.comparison
        median, slow = score.query_ms or (None, None)
        rows.append(
            [
                row.arm,
                _part(row),
                _number(score.steps, ".0f"),
                _number(score.queries, ".1f"),
                _number(score.jerk, ".4f"),
                _number(found.jerk_ratio if found else None, ".2f"),
                str(found.identical) if found else "-",
                _number(median, ".1f"),
                _number(slow, ".1f"),
            ]
        )
    header = (
        "arm",
        "suite",
        "steps of successes",
        "queries per episode",
        "jerk",
        "ratio",
        "identical episodes",
        "ms per query, median",
        "p95",
    )
    return Table(
        "Motion and speed",
        header,
        rows,
        words=2,
        small_print="Jerk is the mean length of the second difference of the executed motions, its ratio "
        "that of the means over pairs. Milliseconds are the client's, from request to reply, while all "
        "simulators ask.",
    )


def smoothness_rows(verdicts: Verdicts) -> Table:
    """How roughly every arm moves, against the baseline, with what is flagged."""
    rows = []
    for row in _rows(verdicts):
        found = {each.measure: each for each in row.comparison.smoothness} if row.comparison else {}
        if not found:
            continue
        cells = [
            f"{each.ratio:.2f} ({each.interval.low:.2f} to {each.interval.high:.2f})"
            if (each := found.get(name)) is not None
            else "-"
            for name in MEASURES
        ]
        flagged = ", ".join(name for name, each in found.items() if each.is_rougher)
        rows.append([row.arm, _part(row), f"rougher: {flagged}" if flagged else "no", *cells])
    return Table(
        f"Smoothness, times that of {verdicts.baseline}",
        ("arm", "suite", "rougher by 10 %", "jerk", "gripper switches", "jump at seams"),
        rows,
        words=3,
        small_print="Ratios of means over pairs, with 95 % by a bootstrap over tasks and their pairs. "
        "Gripper switches per 100 steps; seams are where one chunk of actions ends and the next begins. "
        "Rougher: the ratio is above 1.10 and its interval above 1.",
    )


def task_rows(verdicts: Verdicts) -> Table:
    """Successes per task, with the difference in points for every arm but the baseline and the controls."""
    judged = {arm.name for arm in verdicts.arms if not arm.is_control} - {verdicts.baseline}
    names = [arm.name for arm in verdicts.arms]
    header = ["suite", "task", "instruction"]
    for name in names:
        header += [name, "difference"] if name in judged else [name]
    rows = []
    for task in verdicts.tasks:
        cells = [_part(task), str(task.task), task.language]
        for name in names:
            row = verdicts.row(name, task.suite, task.task)
            cells.append(f"{row.score.successes}/{row.score.episodes}")
            if name in judged:
                cells.append(points(row.comparison.difference) if row.comparison else "-")
        rows.append(cells)
    return Table("Every task", header, rows, words=3)


def _rows(verdicts: Verdicts) -> list[Row]:
    """Every arm's suites; several of them are followed by all."""
    suites: list[str | None] = list(verdicts.suites)
    parts = suites if len(suites) == 1 else [*suites, None]
    return [verdicts.row(arm.name, suite) for arm in verdicts.arms for suite in parts]


def _part(row: Row) -> str:
    return suite_title(row.suite) if row.suite else "all"


def _rates(interval: Interval | None) -> str:
    return "-" if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _percents(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    if interval.high == float("inf"):
        return f"{interval.low:.0f} and more"
    return f"{interval.low:.0f} to {interval.high:.0f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def literal(text: str) -> str:
    """Escape for Markdown: nothing in it is taken for markup, and it stays on one line."""
    marked = "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in text)
    return " ".join(marked.split())
