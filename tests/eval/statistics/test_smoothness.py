"""Oracles: ratios by hand, and coverage of the interval over simulated tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.eval.statistics import compare, read_run, verdict_table
from gr00t.eval.statistics.pairs import pair_up
from gr00t.eval.statistics.smoothness import smoothness
from tests.eval.statistics.synthetic_runs import record, solves, write_run


def shaken(arm: str, task: int, state: int, **changes: Any) -> EpisodeRecord:
    values = {"jerk": 0.1, "gripper_switches": 2, "seam_jump": 0.2, **changes}
    return record(arm, task, state, True, **values)


def found(ours: dict[str, Any], theirs: dict[str, Any], tasks: int = 4) -> dict[str, Any]:
    keys = [(task, state) for task in range(tasks) for state in range(5)]
    arm = [shaken("w4a8", *key, **ours) for key in keys]
    return {
        each.measure: each for each in smoothness(pair_up(arm, [shaken("bf16", *k, **theirs) for k in keys]))
    }


def test_ratios_are_those_of_means_and_what_is_rougher_by_a_tenth_is_flagged() -> None:
    same = {"steps": 100, "queries": 13, "query_ms": [1.0] * 13}
    measures = found({**same, "jerk": 0.13, "gripper_switches": 2, "seam_jump": 0.21}, same)
    assert {name: pytest.approx(each.ratio) for name, each in measures.items()} == {
        "jerk": 1.3,
        "gripper": 1.0,
        "seams": 1.05,
    }
    assert [name for name, each in measures.items() if each.is_rougher] == ["jerk"]
    # Every pair is alike, so nothing is uncertain.
    assert (measures["jerk"].interval.low, measures["jerk"].interval.high) == pytest.approx((1.3, 1.3))
    assert measures["jerk"].pairs == 20


def test_switches_count_by_the_step_and_what_no_record_tells_is_left_out() -> None:
    longer = {"steps": 200, "queries": 25, "query_ms": [1.0] * 25, "seam_jump": None}
    measures = found({**longer, "gripper_switches": 4}, {"steps": 100, "queries": 13, "query_ms": [1.0] * 13})
    assert measures["gripper"].ratio == pytest.approx(1.0)
    assert list(measures) == ["jerk", "gripper"]


@pytest.mark.slow
def test_tasks_that_differ_widen_the_interval() -> None:
    """Oracle: 300 simulated arms of a true ratio of 1, whose tasks differ: 95 % of intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        effects = rng.normal(1, 0.1, 10)
        arm, base = [], []
        for task in range(10):
            for state in range(8):
                base.append(shaken("bf16", task, state, jerk=float(rng.uniform(0.05, 0.15))))
                arm.append(shaken("w4a8", task, state, jerk=float(effects[task] * rng.uniform(0.05, 0.15))))
        interval = smoothness(pair_up(arm, base))[0].interval
        held += interval.low <= 1 <= interval.high
    assert 0.90 <= held / 300 <= 0.99


def test_tables_and_sentence_say_what_is_rougher(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"bf16": solves(), "w4a8": solves()})
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    changed = [
        line.replace('"gripper_switches": null', f'"gripper_switches": {2 if "bf16" in line[:40] else 9}')
        for line in lines
    ]
    (folder / "episodes.jsonl").write_text("".join(f"{line}\n" for line in changed))
    verdicts = compare([read_run(folder)])
    table = verdict_table(verdicts)
    assert "Smoothness, times that of bf16" in table
    assert "rougher: gripper" in table
    assert "It moves more roughly, times the baseline's: gripper " in table
    told = verdicts.to_dict()["rows"][1]["comparison"]["smoothness"]
    assert [each["measure"] for each in told] == ["jerk", "gripper"]
