"""Oracles: Newcombe's published intervals, scipy's t interval, simulated coverage, and counts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from gr00t.eval.report.markdown import render_markdown
from gr00t.eval.report.page import render_page
from gr00t.eval.statistics import compare, read_run
from gr00t.eval.statistics.intervals import Interval, newcombe
from gr00t.eval.statistics.robustness import drop_interval
from gr00t.eval.statistics.summary import Verdicts
from gr00t.eval.statistics.tables import all_tables, drop_rows
from tests.eval.statistics.synthetic_runs import solves, write_run


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Newcombe (1998), table II, method 10.
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_newcombe_is_as_published(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]
) -> None:
    found = newcombe(first, second)
    assert (found.low, found.high) == pytest.approx(expected, abs=5e-5)


def played(folder: Path) -> Verdicts:
    """Two arms in a suite and in two perturbations of it; tasks 0 and 1, four states each."""
    base = {"bf16": solves((0, 0)), "w4a8": solves((0, 1), (0, 2))}
    swap = {"bf16": solves((0, 0), (0, 1), (1, 1)), "w4a8": solves(*((1, state) for state in range(4)))}
    lan = {"bf16": solves(), "w4a8": solves()}
    folders = [
        write_run(folder / "a", base),
        write_run(folder / "b", swap, suite="libero_object_swap"),
        write_run(folder / "c", lan, suite="libero_object_lan"),
    ]
    return compare([read_run(path) for path in folders])


def test_drops_are_counted_against_the_base_suite(tmp_path: Path) -> None:
    found = {(drop.arm, drop.perturbation): drop for drop in played(tmp_path).drops}
    assert set(found) == {(arm, perturbation) for arm in ("bf16", "w4a8") for perturbation in ("swap", "lan")}
    drop = found["w4a8", "swap"]
    assert (drop.base, drop.suite, drop.tasks) == ("libero_object", "libero_object_swap", 2)
    assert (drop.base_successes, drop.base_episodes, drop.successes, drop.episodes) == (6, 8, 4, 8)
    assert drop.drop == 0.25
    # By task: 2 of 4 became 4 of 4, and 4 of 4 became none.
    differences = np.array([0.5 - 1.0, 1.0 - 0.0])
    low, high = student.interval(0.95, 1, differences.mean(), differences.std(ddof=1) / np.sqrt(2))
    assert drop.interval == Interval(max(-1, low), min(1, high)).hull(newcombe((6, 8), (4, 8)))
    # Paired, over the perturbed episodes: bf16 solves 5, w4a8 4 others and some of the same.
    assert drop.against_baseline is not None
    assert drop.against_baseline.difference == (4 - 5) / 8
    assert drop.against_baseline_in_base is not None
    assert drop.against_baseline_in_base.difference == (6 - 7) / 8
    assert found["bf16", "swap"].against_baseline is None
    assert found["bf16", "lan"].drop == (7 - 8) / 8


def test_only_tasks_that_both_suites_have_are_counted(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", {"bf16": solves((0, 0))}, tasks=[0, 1, 2]),
        write_run(tmp_path / "b", {"bf16": solves()}, tasks=[1, 2, 3], suite="libero_object_task"),
    ]
    (drop,) = compare([read_run(path) for path in folders]).drops
    assert (drop.tasks, drop.base_episodes, drop.episodes, drop.drop) == (2, 8, 8, 0.0)


def test_without_the_base_suite_there_is_no_drop(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"bf16": solves()}, suite="libero_object_task")
    verdicts = compare([read_run(folder)])
    assert list(verdicts.drops) == []
    titles = [table.title for table in all_tables(verdicts)]
    assert "Base against each perturbation" not in titles
    assert "libero_object_task (other task)" in all_tables(verdicts)[0].as_text()


def test_every_form_tells_the_drops_and_names_the_perturbation(tmp_path: Path) -> None:
    verdicts = played(tmp_path)
    table = drop_rows(verdicts)
    row = next(row for row in table.rows if (row[0], row[2]) == ("w4a8", "places swapped"))
    solved = ["6/8, 75.0 %", "4/8, 50.0 %", "25.0"]
    assert row[:6] == ["w4a8", "libero_object", "places swapped", *solved]
    assert row[7:9] == ["-12.5", "-12.5"]
    assert "places swapped: one or two pairs of objects or fixtures have changed places" in table.small_print
    runs = [read_run(tmp_path / name) for name in "abc"]
    for text in (render_markdown(verdicts, runs), render_page(verdicts, runs, tmp_path / "page.html")):
        assert "Base against each perturbation" in text
        assert "libero_object_lan (other words)" in text.replace("\\_", "_")
        assert "6/8" in text
    told = json.loads(json.dumps(verdicts.to_dict()))["drops"]
    assert [(drop["arm"], drop["perturbation"]) for drop in told] == [
        (arm, perturbation) for perturbation in ("swap", "lan") for arm in ("bf16", "w4a8")
    ]
    assert told[1]["against_baseline"]["pairs"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("episodes", "spread", "covers"), [(5, 0.0, 0.93), (10, 0.0, 0.93), (5, 0.25, 0.93), (50, 0.25, 0.93)]
)
def test_the_interval_covers_what_it_should(episodes: int, spread: float, covers: float) -> None:
    # 10 tasks, 85 % solved, 30 points lost on average over tasks of the kind that the ten were drawn from.
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(2000):
        lost = rng.normal(0.3, spread, 10)
        rates = np.clip(0.85 - lost, 0, 1)
        before = rng.binomial(episodes, 0.85, 10)
        after = rng.binomial(episodes, rates)
        pairs = [((int(a), episodes), (int(b), episodes)) for a, b in zip(after, before, strict=True)]
        interval = drop_interval(pairs)
        meant = 0.85 - np.clip(0.85 - rng.normal(0.3, spread, 20000), 0, 1).mean() if spread else 0.3
        hits.append(interval.low <= meant <= interval.high)
    assert covers < np.mean(hits)
