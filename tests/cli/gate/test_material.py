"""Observations of a data set and of a suite, and the comparison with recorded actions.

Oracles: which episode and step a number is from, and the open-loop command itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gr00t.cli import drift, open_loop
from gr00t.cli.gate import material, recorded_actions
from gr00t.cli.gate.arguments import DriftArguments
from gr00t.cli.gate.material import MaterialFinder
from gr00t.cli.prediction.arguments import OpenLoopArguments
from gr00t.data.dataset import ModalityConfig
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.eval.rollout.collect import Collection
from gr00t.serving.observation_file import EPISODE, write_observations
from tests.serving.socket_helpers import serving

HORIZON, LENGTH, EPISODES = 4, 6, 5
CONFIG = {
    "state": ModalityConfig(delta_indices=[0], modality_keys=["state.x"]),
    "action": ModalityConfig(delta_indices=list(range(HORIZON)), modality_keys=["action.x"]),
    "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation.task"]),
}
MODALITY = {
    "state": {"x": {"start": 0, "end": 1}},
    "action": {"x": {"start": 0, "end": 1}},
    "video": {},
    "annotation": {"task": {"original_key": "task_index"}},
}


class Staying:
    """A policy for the set: it answers that x stays."""

    modality_config = CONFIG
    embodiment_tag = "new_embodiment"
    can_batch = False

    def get_action(self, observations: dict[str, Any], *, seeds: int | None = None) -> dict[str, Any]:
        return {"action.x": np.repeat(np.asarray(observations["state.x"], np.float32), HORIZON, axis=0)}

    def get_modality_config(self) -> dict[str, ModalityConfig]:
        return CONFIG

    def quantization_report(self) -> dict[str, Any]:
        return {"enabled": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State 10 x episode + step."""
    folder = tmp_path_factory.mktemp("sets") / "recorded"
    writer = LeRobotWriter(folder, MODALITY, fps=20)
    for episode in range(EPISODES):
        state = (10 * episode + np.arange(LENGTH, dtype=np.float32))[:, None]
        writer.add(Demonstration("lift it", state, state + 1, {}, {}))
    return folder


def states(observations: Any) -> list[int]:
    return [int(observation["state.x"][0, 0]) for observation in observations]


def test_held_out_episodes_judge_and_the_others_calibrate(folder: Path) -> None:
    arguments = DriftArguments(data=folder, judged=5, requests=6)
    found = MaterialFinder(arguments, 1, {}).find(Staying())
    # The last two of five; the first, middle and last step, and the ends.
    assert states(found.judged.observations) == [30, 32, 35, 40, 45]
    assert found.judged.episodes == [3, 3, 3, 4, 4]
    assert states(found.recorded) == [0, 5, 10, 15, 20, 25]
    assert (found.where, found.recorded_where) == ("2 episodes of recorded", "3 other episodes of recorded")
    assert not any(key.startswith("action.") for key in found.judged.observations[0])
    named = DriftArguments(data=folder, judged=2, episodes="0,4")
    assert states(MaterialFinder(named, 0, {}).find(Staying()).judged.observations) == [0, 40]


def test_the_same_observation_in_many_episodes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    write_observations(path, [{"x": np.zeros(3), EPISODE: episode} for episode in range(6)])
    MaterialFinder(DriftArguments(observations=path), 0, {})
    assert caplog.messages == [
        "file file: 5 observations are the same as one of another episode: the interval is of fewer episodes "
        "than it seems"
    ]


def test_rollouts_that_judge_are_of_other_initial_states(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Source:
        suite = SimpleNamespace(name="a_suite")

        def __init__(self, suite: str, requests: int, environ: Any, **others: Any) -> None:
            asked.append({"suite": suite, "requests": requests, "executed": others["replan_steps"]})

        def play(self, policy: Any, requests: int, **others: Any) -> tuple[Collection, str]:
            asked.append({"played": requests, **others})
            return Collection([{"x": 0}, {"x": 1}], [4, 5]), "fast"

        def gather(self, policy: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
            return [{"x": 2}], {}

    monkeypatch.setattr(material, "LiberoSource", Source)
    found = MaterialFinder(DriftArguments(libero="a_suite", requests=1), 1, {}).find(Staying())
    assert asked == [
        {"suite": "a_suite", "requests": 1, "executed": 8},
        {"played": 48, "placement": "wide", "to_judge": True},
    ]
    assert (found.judged.episodes, found.recorded) == ([4, 5], [{"x": 2}])
    assert found.where == "rollouts in a_suite, wide placements"


def test_without_arms_predicted_actions_are_compared_with_recorded_ones(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "drawing.png"
    with serving(Staying()) as (_, port):
        ours = ["--data", folder, "--plot", plot]
        theirs = ["--dataset-path", folder, "--start-traj", 3, "--trajs", 2, "--action-horizon", HORIZON]
        answers = []
        for program, flags in ((drift, ours), (open_loop, [*theirs, "--save-plot-path", plot])):
            monkeypatch.setattr(sys, "argv", ["program", *map(str, flags), "--port", str(port)])
            assert program.main() == 0
            answers.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert answers[0] == answers[1]
    # At steps 0 to 3 and 4 to 5 what is recorded is ahead by 1, 2, 3, 4 and 1, 2.
    assert answers[0]["mae"] == pytest.approx(13 / 6)
    assert list(answers[0]["episodes"]) == ["3", "4"]
    assert plot.is_file()


def test_without_arms_the_policy_is_the_checkpoints_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `scripts/eval_policy.py` has it: nothing is changed that nobody named."""
    asked: list[OpenLoopArguments] = []

    def evaluate(arguments: OpenLoopArguments) -> dict[str, Any]:
        asked.append(arguments)
        return {}

    monkeypatch.setattr(recorded_actions, "evaluate", evaluate)
    for named in ({}, {"denoising_steps": 3, "executed": 2}):
        recorded_actions.follow_recorded(DriftArguments(model="m", data=folder, **named))
    assert [(one.denoising_steps, one.action_horizon) for one in asked] == [(None, None), (3, 2)]


def test_episodes_that_are_not_in_a_row_take_arms(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", folder, "--port", "1", "--episodes", "1,3", "--plot", tmp_path / "a.png"]
    monkeypatch.setattr(sys, "argv", ["program", *map(str, flags)])
    assert drift.main() == 2
    assert (
        "error: --episodes 1,3: without --arms, expected some in a row, as 40-49" in capsys.readouterr().err
    )
