"""Runs of different simulators: refused, or compared with a warning. Oracle: the texts and the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr00t.eval.report import write_report
from gr00t.eval.report.markdown import render_markdown
from gr00t.eval.report.page import render_page
from gr00t.eval.statistics import compare, read_run, verdict_table
from gr00t.eval.statistics.runs import Run
from gr00t.libero.tasks.suites import LiberoError
from gr00t.serving.identity import digest
from tests.eval.statistics.synthetic_runs import solves, write_run

OLD = {"mujoco": "3.3.2", "robosuite": "1.4.0", "hf-libero": "0.1.4", "bddl": "1.0.1"}


def two_runs(tmp_path: Path, first: dict, second: dict) -> list[Run]:
    a = write_run(tmp_path / "a", {"bf16": solves()}, versions=first)
    b = write_run(tmp_path / "b", {"w4a8": solves((0, 1))}, versions=second)
    return [read_run(a), read_run(b)]


@pytest.mark.parametrize(
    ("package", "version"),
    [("mujoco", "3.8.1"), ("robosuite", "1.4.1"), ("hf-libero", "0.2"), ("bddl", "3.0")],
)
def test_runs_of_other_versions_are_not_paired_and_both_are_named(
    tmp_path: Path, package: str, version: str
) -> None:
    runs = two_runs(tmp_path, OLD, {**OLD, package: version})
    with pytest.raises(LiberoError) as refusal:
        compare(runs)
    assert str(refusal.value) == (
        f"these were played by different simulators and make no common table: {package} is {OLD[package]} "
        f"(arm 'bf16' in {tmp_path / 'a'}), but {version} (arm 'w4a8' in {tmp_path / 'b'}); --allow-mixed "
        "compares them all the same"
    )


def test_runs_of_other_versions_are_compared_where_that_is_asked_for_with_a_warning_everywhere(
    tmp_path: Path,
) -> None:
    runs = two_runs(tmp_path, OLD, {**OLD, "mujoco": "3.8.1"})
    verdicts = compare(runs, allow_mixed=True)
    assert verdicts.row("w4a8").comparison.pairs == 8
    warning = "WARNING: episodes of different simulators are compared (mujoco 3.3.2 or 3.8.1)"
    assert warning in verdict_table(verdicts)
    assert warning in render_markdown(verdicts, runs)
    assert warning in render_page(verdicts, runs, tmp_path / "report.html")
    assert verdicts.to_dict()["versions"]["mujoco"] == ["3.3.2", "3.8.1"]


@pytest.mark.parametrize("known", [OLD, {"python": "3.11"}])
def test_a_version_that_is_not_known_is_no_version_that_agrees(tmp_path: Path, known: dict) -> None:
    runs = two_runs(tmp_path, known, {"python": "3.11"})
    with pytest.raises(LiberoError, match=r"mujoco is (3\.3\.2|unknown) \(arm .*/a\), but unknown \(arm"):
        compare(runs)
    assert "mujoco" in verdict_table(compare(runs, allow_mixed=True))


def test_an_unknown_version_is_told_where_it_makes_no_difference(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", {"bf16": solves(), "w4a8": solves()}, versions={}))
    assert "WARNING: which MuJoCo played these episodes is unknown." in verdict_table(compare([run]))


def test_mixed_versions_within_one_folder_are_refused_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"bf16": solves(), "w4a8": solves()}, versions=OLD)
    text = (folder / "episodes.jsonl").read_text()
    (folder / "episodes.jsonl").write_text(text[::-1].replace("3.3.2"[::-1], "3.8.1"[::-1], 1)[::-1])
    with pytest.raises(LiberoError, match=r"mujoco is 3\.3\.2 .*, but 3\.8\.1"):
        write_report(folder)


def test_an_episode_whose_simulator_never_came_up_mixes_nothing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"bf16": solves()}, versions=OLD)
    lost = write_run(tmp_path / "b", {"bf16": lambda t, s: None}, init_states=[4], versions={"gr00t": "1"})
    assert compare([read_run(folder), read_run(lost)]).row("bf16").score.simulator_errors == 2


def test_every_report_carries_the_version(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"bf16": solves(), "w4a8": solves()}, versions=OLD)
    told = "Played by mujoco 3.3.2, robosuite 1.4.0, hf-libero 0.1.4."
    assert told in verdict_table(write_report(folder))
    assert told in (folder / "report.md").read_text().replace("\\", "")
    assert "version: mujoco" in (folder / "report.html").read_text()
    assert json.loads((folder / "report.json").read_text())["versions"]["mujoco"] == ["3.3.2"]


def identify(folder: Path, name: str, identity: dict[str, str]) -> None:
    """Let an arm, and its records, be of an identity."""
    path = folder / "arms" / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "identity": identity}))
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    own = f'"arm": "{name}"'
    told = f'"identity": "{digest(identity)}"'
    changed = [line.replace('"identity": null', told) if own in line else line for line in lines]
    (folder / "episodes.jsonl").write_text("\n".join(changed) + "\n")


def test_arms_of_different_sources_are_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"bf16": solves(), "w4a8": solves()})
    for name in ("bf16", "w4a8"):
        identify(folder, name, {"sources": f"hash-{name}"})
    write_report(folder)
    assert (
        "w4a8 was played with other sources than bf16 (hashes hash-w4a8 and hash-bf16)"
        in (folder / "report.html").read_text()
    )


def test_an_arm_that_is_another_thing_in_another_folder_is_told(tmp_path: Path) -> None:
    runs = []
    for place, (state, packs) in enumerate([(0, "1"), (1, "2")]):
        folder = write_run(tmp_path / str(place), {"bf16": solves(), "w4a8": solves()}, init_states=[state])
        identify(folder, "bf16", {"sources": "s", "packs": "0"})
        identify(folder, "w4a8", {"sources": "s", "packs": packs})
        runs.append(read_run(folder))
    assert "WARNING: w4a8 was not the same in 0 and 1, by packs: its episodes" in render_markdown(
        compare(runs), runs
    )
