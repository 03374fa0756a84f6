"""Oracle: outcomes that the test has chosen, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gr00t.eval.report import write_report
from gr00t.eval.rollout.records import EpisodeRecord
from gr00t.eval.statistics import compare, read_run, verdict_table
from gr00t.eval.statistics.intervals import tango, wilson
from gr00t.eval.statistics.pairs import pair_up
from gr00t.eval.statistics.summary import Verdicts
from gr00t.eval.statistics.tables import success_rows, verdict_rows
from gr00t.eval.statistics.words import notes, sentence
from gr00t.libero.tasks.suites import LiberoError
from tests.eval.statistics.synthetic_runs import record, solves, write_run


def verdicts(folder: Path, **options) -> Verdicts:
    return compare([read_run(folder)], **options)


def test_successes_pairs_and_differences_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"bf16": solves((0, 0)), "w4a8": solves((0, 1), (0, 2), (1, 3))})
    found = verdicts(tmp_path / "run")
    row = found.row("w4a8")
    assert (row.score.successes, row.score.episodes, row.score.rate) == (5, 8, 0.625)
    assert row.score.interval == wilson(5, 8)
    comparison = row.comparison
    assert (comparison.both, comparison.wins, comparison.losses, comparison.neither) == (4, 1, 3, 0)
    assert (comparison.pairs, comparison.tasks, comparison.difference) == (8, 2, -0.25)
    assert comparison.tango == tango(1, 3, 8)
    assert comparison.mcnemar == 0.625
    assert comparison.retention == pytest.approx(100 * 5 / 7)
    assert comparison.interval.low == min(comparison.bootstrap.low, comparison.tango.low)
    assert found.row("w4a8", "libero_object", 0).comparison.difference == -0.25
    assert [row.task for row in found.tasks] == [0, 1]


def test_steps_queries_jerk_and_latency_are_those_of_the_records(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"bf16": solves((0, 0)), "w4a8": solves()}, tasks=[0], init_states=[0, 1, 2])
    found = verdicts(tmp_path / "run").row("bf16")
    records = [record("bf16", 0, state, state > 0) for state in range(3)]
    assert found.score.steps == np.mean([r.outcome.steps for r in records[1:]])
    assert found.score.queries == np.mean([r.outcome.queries for r in records])
    assert found.score.jerk == pytest.approx(np.mean([r.outcome.jerk for r in records]))
    times = sorted(ms for r in records for ms in r.timing.query_ms)
    assert found.score.query_ms == pytest.approx((np.median(times), np.percentile(times, 95)))
    other = verdicts(tmp_path / "run").row("w4a8").comparison
    theirs = np.mean([record("w4a8", 0, state, True).outcome.jerk for state in range(3)])
    assert other.jerk_ratio == pytest.approx(theirs / np.mean([r.outcome.jerk for r in records]))


def test_wrong_objects_are_counted_with_an_interval(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run", {"bf16": solves(), "w4a8": lambda t, s: None if (t, s) == (1, 3) else True}
    )
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    for values in lines:
        # The last one of w4a8 was lost to the simulator: it is in no count.
        if values["arm"] == "w4a8" and values["init_state"] == 3:
            values["lifted_wrong"] = "milk_1"
    (folder / "episodes.jsonl").write_text("".join(json.dumps(values) + "\n" for values in lines))
    found = verdicts(folder)
    assert (found.row("bf16").score.lifted_wrong, found.row("bf16").score.lifted_wrong_interval) == (
        0,
        wilson(0, 8),
    )
    score = found.row("w4a8").score
    assert (score.lifted_wrong, score.episodes, score.lifted_wrong_interval) == (1, 7, wilson(1, 7))
    # By hand: Wilson's interval of 1 of 7.
    assert "1/7  2.6 to 51.3" in verdict_table(found)
    assert found.row("w4a8", "libero_object", 0).score.lifted_wrong == 1
    plain = found.to_dict()["rows"][1]["score"]
    assert plain["lifted_wrong_interval"] == {"low": wilson(1, 7).low, "high": wilson(1, 7).high}


def test_what_the_simulator_lost_is_in_no_rate_and_no_pair(tmp_path: Path) -> None:
    def lossy(task: int, state: int) -> bool | None:
        return None if state == 0 else state != 1

    write_run(tmp_path / "run", {"bf16": solves(), "w4a8": lossy})
    found = verdicts(tmp_path / "run")
    row = found.row("w4a8")
    assert (row.score.episodes, row.score.successes, row.score.simulator_errors) == (6, 4, 2)
    assert (row.comparison.pairs, row.comparison.lost, row.comparison.losses) == (6, 2, 2)
    assert found.is_finished
    assert "Episodes lost to simulator errors, in no rate and no pair: 2 of w4a8." in notes(
        found, [read_run(tmp_path / "run")]
    )


def test_a_pair_is_the_same_task_state_seed_and_placement() -> None:
    ours = [
        record("a", 0, 0, True),
        record("a", 0, 1, True, seed=1),
        record("a", 0, 2, True, placement="wide"),
    ]
    theirs = [record("b", 0, 0, False), record("b", 0, 1, False), record("b", 0, 2, False)]
    found = pair_up(ours, theirs)
    assert [key.init_state for key in found.pairs] == [0]
    assert found.unpaired == 4
    assert [pair.arm.key.arm for pair in found.disagreements()] == ["a"]


def test_further_seeds_are_further_pairs_of_the_same_task(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"seed{seed}", {"bf16": solves(), "w4a8": solves((0, 0))}, seeds=(seed,))
    found = compare([read_run(tmp_path / "seed0"), read_run(tmp_path / "seed1")])
    comparison = found.row("w4a8").comparison
    assert (comparison.pairs, comparison.tasks, comparison.losses, comparison.planned) == (16, 2, 2, 16)


def test_a_run_under_several_seeds_has_as_many_pairs_of_each_state(tmp_path: Path) -> None:
    arms = {"bf16": solves(), "w4a8": solves((0, 0))}
    folder = write_run(tmp_path / "run", arms, seeds=(0, 1, 2))
    found = verdicts(folder)
    row = found.row("w4a8")
    # Two tasks, four states, three seeds; the task stays what is resampled.
    assert (row.planned, row.score.episodes, row.score.seeds) == (24, 24, 3)
    assert (row.comparison.pairs, row.comparison.planned, row.comparison.tasks) == (24, 24, 2)
    assert row.comparison.losses == 3
    assert found.row("w4a8", "libero_object", 1).planned == 12
    assert found.is_finished
    table = success_rows(found)
    assert [line[table.header.index("seeds")] for line in table.rows] == ["3", "3"]
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert "24 episodes per arm, under 3 seeds." in page
    alone = verdicts(write_run(tmp_path / "alone", arms))
    assert alone.row("w4a8").score.seeds == 1


def test_a_run_that_goes_on_says_how_many_pairs_of_how_many(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        {"bf16": solves(), "w4a8": solves()},
        only=lambda arm, task, state: arm == "bf16" or (task, state) < (1, 1),
    )
    found = verdicts(folder)
    assert not found.is_finished
    assert notes(found, [read_run(folder)])[0] == (
        "The run is not finished: bf16 8 of 8 episodes, w4a8 5 of 8 pairs."
    )
    assert "5 of 8" in verdict_table(found)


def test_an_arm_without_episodes_yet_is_nothing_to_compare(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run", {"bf16": solves(), "w4a8": solves()}, only=lambda arm, task, state: arm == "bf16"
    )
    (folder / "arms" / "w4a8.json").unlink()
    found = verdicts(folder)
    assert found.row("w4a8").comparison is None
    assert "nothing to compare yet" in verdict_table(found)
    assert sentence(found.row("w4a8"), found) == (
        "w4a8 and bf16 have no episodes in common yet: nothing to compare."
    )


def test_a_few_pairs_that_all_agree_prove_nothing_and_a_hundred_do(tmp_path: Path) -> None:
    few = verdicts(write_run(tmp_path / "few", {"bf16": solves(), "w4a8": solves()}))
    many = verdicts(
        write_run(
            tmp_path / "many", {"bf16": solves(), "w4a8": solves()}, tasks=range(10), init_states=range(10)
        )
    )
    assert few.row("w4a8").comparison.bootstrap.low == 0
    assert few.row("w4a8").comparison.interval == tango(0, 0, 8)
    assert few.row("w4a8").comparison.judgement.outcome == "undecided"
    assert many.row("w4a8").comparison.judgement.outcome == "non-inferior"
    assert many.row("w4a8").comparison.retention_interval.low < 97


def test_failures_alone_have_no_retention(tmp_path: Path) -> None:
    found = verdicts(
        write_run(tmp_path / "run", {"bf16": lambda t, s: False, "w4a8": lambda t, s: s == 0})
    ).row("w4a8")
    assert (found.comparison.retention, found.comparison.retention_interval) == (None, None)
    assert found.comparison.difference == 0.25


def test_the_expected_retention_stands_at_its_suites(tmp_path: Path) -> None:
    for suite in ("libero_goal", "libero_10"):
        write_run(tmp_path / suite, {"bf16": solves(), "w4a8": solves((0, 0))}, suite=suite)
    found = compare([read_run(tmp_path / "libero_goal"), read_run(tmp_path / "libero_10")])
    assert found.suites == ["libero_goal", "libero_10"]
    expected = found.row("w4a8", "libero_goal").comparison.expected_retention
    assert (expected.low, expected.high) == (95, 98)
    assert found.row("w4a8", "libero_10").comparison.expected_retention is None
    assert found.row("w4a8").comparison.pairs == 16
    assert "95 to 98" in verdict_table(found)


@pytest.mark.parametrize(
    ("kinds", "asked", "base"),
    [
        ({"zero": "zero"}, None, "mine"),
        ({"zero": "zero"}, "zero", "zero"),
        ({"zero": "zero", "mine": "expert"}, None, "mine"),
        ({"zero": "zero", "mine": "replay"}, None, "zero"),
    ],
)
def test_the_baseline_is_the_first_arm_that_is_no_control(tmp_path: Path, kinds, asked, base) -> None:
    folder = write_run(tmp_path / "run", {"zero": solves(), "mine": solves()}, kinds=kinds)
    found = verdicts(folder, baseline=asked)
    assert found.baseline == base
    assert (found.arms[0].name, found.arms[0].is_control) == (base, False)
    assert found.arms[1].is_control == (found.arms[1].name in (kinds if asked is None else ()))


def test_bf16_is_the_baseline_wherever_it_stands(tmp_path: Path) -> None:
    assert verdicts(write_run(tmp_path / "run", {"w4a8": solves(), "bf16": solves()})).baseline == "bf16"


def test_an_unknown_baseline_is_refused_with_the_nearest(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"bf16": solves(), "w4a8": solves()})
    with pytest.raises(LiberoError, match=r"no arm 'w4a9' in this run: did you mean w4a8\?"):
        verdicts(folder, baseline="w4a9")


def test_a_blind_replay_that_does_well_is_said(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        {"bf16": solves(), "w4a8": solves(), "replay": solves((0, 0), (1, 0))},
        kinds={"replay": "replay"},
    )
    found = verdicts(folder)
    assert (
        "replay solves 75.0 % without looking, bf16 100.0 %: these episodes say little about vision."
        in notes(found, [read_run(folder)])
    )
    assert "control" in verdict_table(found)


def test_a_policy_with_grey_images_is_a_control(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        {
            "grey": solves((0, 0), (1, 0)),
            "w4a8": solves((0, 0)),
            "bf16": solves(),
            "zero": lambda t, s: False,
        },
        kinds={"zero": "zero"},
        suite="libero_goal",
    )
    plan = json.loads((folder / "plan.json").read_text())
    plan["arms"]["grey"]["images"] = "grey"
    (folder / "plan.json").write_text(json.dumps(plan))
    found = verdicts(folder)
    told = [(arm.name, arm.kind, arm.is_control) for arm in found.arms]
    assert told == [
        ("bf16", "recipe", False),
        ("w4a8", "recipe", False),
        ("grey", "grey", True),
        ("zero", "zero", True),
    ]
    row = next(line for line in verdict_rows(found).rows if line[0] == "grey")
    # Neither a judgement nor what is expected of quantized policies.
    assert (row[2], row[-1]) == ("control", "-")
    assert sentence(found.row("grey"), found).endswith(". It is a control, not to be judged.")
    assert "It is a control" not in sentence(found.row("w4a8"), found)
    assert (
        "grey solves 75.0 % without looking, bf16 100.0 %: these episodes say little about vision."
        in notes(found, [read_run(folder)])
    )
    page = (write_report(folder), (folder / "report.html").read_text())[1]
    assert "control: grey" in page
    assert "shown one even grey by both cameras" in page


def test_other_denoising_steps_are_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"bf16": solves(), "w4a8": solves()})
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    other = [json.loads(line) for line in lines]
    for values in other:
        values["denoising_steps"] = 4 if values["arm"] == "w4a8" else 8
    (folder / "episodes.jsonl").write_text("".join(json.dumps(values) + "\n" for values in other))
    assert "w4a8 takes 4 denoising steps, bf16 8: the difference is not that of quantization alone." in notes(
        verdicts(folder), [read_run(folder)]
    )


def test_everything_survives_json(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"bf16": solves((0, 0), (0, 1), (1, 2), (1, 1)), "w4a8": solves()})
    text = json.dumps(verdicts(folder).to_dict(), allow_nan=False)
    rows = json.loads(text)["rows"]
    assert rows[1]["comparison"]["difference"] == 0.5
    assert rows[1]["comparison"]["judgement"]["outcome"] == "non-inferior"
    assert EpisodeRecord.__name__ not in text


def test_the_floor_of_discordance_is_told_before_the_numbers(tmp_path: Path) -> None:
    outcomes = {"bf16": solves((0, 1)), "bf16-again": solves((0, 2)), "w4a8": solves()}
    run = read_run(write_run(tmp_path / "run", outcomes))
    told = [note for note in notes(compare([run]), [run]) if note.startswith("bf16-again")]
    # Two of eight pairs; Wilson's interval of it by hand: 7.15 to 59.07.
    assert told == [
        "bf16-again, the same policy rounded otherwise, ends otherwise than bf16 in 2 of 8 pairs, 25.0 % "
        "(95 %: 7.1 to 59.1). So much discordance is chaos; only what an arm has beyond it is its own."
    ]
    assert not [note for note in notes(compare([run], baseline="bf16-again"), [run]) if "chaos" in note]
