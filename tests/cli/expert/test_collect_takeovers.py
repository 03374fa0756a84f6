"""What scripts/collect_takeovers.py plays and refuses. Oracle: the lists and sentences written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gr00t.cli.errors import UsageError
from gr00t.cli.expert.collect_takeovers import RUN, CollectTakeoversOptions, agree, check, jobs, summary
from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks


def test_every_repeat_has_a_seed_and_few_episodes_are_a_job() -> None:
    tasks = load_tasks(find_suite("libero_object_prompts"), libero_package())[:1]
    options = CollectTakeoversOptions(
        Path("none"), "libero_object_prompts", "none", init_states="20-31", repeats=2, seed=9
    )
    found = [(job.seed, list(job.init_states)) for job in jobs(options, tasks)]
    assert found == [(seed, list(states)) for seed in (9, 10) for states in (range(20, 30), range(30, 32))]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"workers": 0}, "--workers: expected at least 1, got 0"),
        ({"takeovers_of_failures": 0}, "--takeovers-of-failures: expected at least 1, got 0"),
        ({"takeovers": -1}, "--takeovers: expected 0 or more, got -1"),
        ({"max_steps": 0}, "--max-steps: expected at least 1, got 0"),
        ({"size": 100}, "--size 100: expected a divisor of 256"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}$"):
        check(CollectTakeoversOptions(Path("none"), "libero_object", "none", **flags))


def test_another_policy_needs_another_folder(tmp_path: Path) -> None:
    agree(tmp_path, {"policy": "a", "size": 128})
    agree(tmp_path, {"policy": "a", "size": 128})
    assert json.loads((tmp_path / RUN).read_text()) == {"policy": "a", "size": 128}
    with pytest.raises(UsageError, match="is of another run: policy 'a' -> 'b'; name another folder"):
        agree(tmp_path, {"policy": "b", "size": 128})


def test_episodes_and_takeovers_are_counted_by_task() -> None:
    task = {"suite": "libero_object", "task_number": 1}
    taken = [{"after": 3, "solved": True}, {"after": 30, "solved": False}]
    played = [
        {**task, "solved": False, "takeovers": taken},
        {**task, "solved": True, "takeovers": []},
        {**task, "simulator_error": "GL went away"},
    ]
    counts = {"played": 2, "policy_solved": 1, "takeovers": 2, "recorded": 1}
    assert summary(played) == {**counts, "by_task": {"libero_object 1": counts}}
