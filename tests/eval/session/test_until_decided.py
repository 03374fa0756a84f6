"""Oracle: arms whose every outcome is known: as good as the base, good for nothing, and a control."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gr00t.eval.interim.records import FILE, read_looks
from gr00t.eval.rollout.run_folder import RunFolderError
from gr00t.eval.session import session
from gr00t.eval.session.options import EvaluationOptions
from gr00t.eval.statistics import compare, read_run, verdict_table
from gr00t.libero.tasks.suites import LiberoError
from tests.eval.rollout.stubs import records_of

# The stub's expert needs 5 steps, and 10 more for each unit of noise: with 10 it fails where that is 1.
ASKED = EvaluationOptions(
    suite="object",
    arms="bad=expert:1,good=expert:0.1,expert,zero",
    baseline="expert",
    tasks="0-4",
    max_steps=10,
    until_decided=True,
    max_pairs=200,
    margin=4.0,
    workers=2,
)


@pytest.fixture
def options(tmp_path: Path) -> EvaluationOptions:
    return dataclasses.replace(ASKED, output=tmp_path / "out")


def played(folder: Path) -> dict[str, int]:
    return dict(Counter(record.key.arm for record in records_of(folder)))


@pytest.mark.usefixtures("stub_simulators")
def test_every_arm_plays_until_its_own_verdict_and_the_base_as_far_as_they_need(
    environ: dict[str, str], options: EvaluationOptions
) -> None:
    said: list[str] = []
    summary = session.run(options, environ, said.append)
    folder = options.output
    assert folder is not None
    assert summary["complete"]
    # Nothing solved of 100 decides at once; no discordant pair of 125 is the first that does, see the rule.
    assert played(folder) == {"bad": 100, "zero": 100, "good": 125, "expert": 125}
    run = read_run(folder)
    assert run.look_plan is not None
    assert run.look_plan.pairs == [100, 125, 160, 200]
    assert {name: look.decision for name, look in run.looks.items()} == {
        "bad": "inferior",
        "good": "non-inferior",
        "zero": "control",
    }
    # 25 states of each of 5 tasks: what follows 125 would be under the next seed.
    assert {record.key.seed for record in records_of(folder)} == {0}
    assert run.plan["seeds"] == [0, 1]
    verdicts = compare([run], baseline="expert", margin=4.0)
    assert verdicts.is_finished
    table = verdict_table(verdicts)
    assert "non-inferior after 125 pairs" in table
    assert "inferior after 100 pairs" in table
    assert "Looks until decided" in table
    # At another margin it is another question, and what was played was not played for it.
    other = compare([run], baseline="expert", margin=5.0)
    assert str(other.row("good").comparison.judgement) == "non-inferior"  # type: ignore[union-attr]
    assert [look.counts for look in other.looks] == [False, False, False]


@pytest.mark.usefixtures("stub_simulators")
def test_a_run_goes_on_by_its_plan_and_no_other(environ: dict[str, str], options: EvaluationOptions) -> None:
    session.run(options, environ)
    folder = options.output
    assert folder is not None
    whole = read_run(folder)
    # As a kill would have left it: in the middle of the second batch of `good`.
    episodes = (folder / "episodes.jsonl").read_text().splitlines(keepends=True)
    looks = (folder / FILE).read_text().splitlines(keepends=True)
    assert [json.loads(line)["arm"] for line in looks] == ["bad", "good", "good", "zero"]
    (folder / "episodes.jsonl").write_text("".join(episodes[:340]))
    (folder / FILE).write_text("".join(looks[:2]))
    begun = read_run(folder)
    verdicts = compare([begun], baseline="expert", margin=4.0)
    assert not verdicts.is_finished
    assert "undecided at look 1 of 4, after 100 pairs" in verdict_table(verdicts)

    for changes in ({"max_pairs": 150}, {"margin": 2.0}, {"trials": 20}, {"until_decided": False}):
        changed: dict[str, Any] = changes
        with pytest.raises((RunFolderError, LiberoError), match=r"another run|needs --until-decided"):
            session.run(dataclasses.replace(options, **changed), environ)
    session.run(options, environ)
    assert (folder / FILE).read_text() == "".join(looks)
    assert played(folder) == {"bad": 100, "zero": 100, "good": 125, "expert": 125}
    assert read_looks(folder, whole.look_plan) == whole.looks  # type: ignore[arg-type]


@pytest.mark.usefixtures("stub_simulators")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": "expert"}, "--until-decided compares arms: expected at least two"),
        ({"max_pairs": 9}, "at most 9 pairs of 5 tasks: expected at least 10"),
        ({"arms": "zero,replay", "baseline": None}, "no arm but controls; name the --baseline"),
        ({"until_decided": False}, "--max-pairs needs --until-decided"),
        ({"margin": 0.0}, "margin 0: expected percentage points above 0 and below 100"),
    ],
)
def test_what_cannot_be_decided_is_refused_before_anything_plays(
    environ: dict[str, str], options: EvaluationOptions, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(LiberoError, match=said):
        session.run(dataclasses.replace(options, **changes), environ)


@pytest.mark.usefixtures("stub_simulators")
def test_the_most_pairs_leave_an_arm_undecided_and_say_so(
    environ: dict[str, str], options: EvaluationOptions
) -> None:
    asked = dataclasses.replace(options, arms="good=expert:0.1,expert", max_pairs=50)
    said: list[str] = []
    session.run(asked, environ, said.append)
    assert "undecided after 50 pairs, the most that were to be played" in said[0]
