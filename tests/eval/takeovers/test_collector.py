"""What a collector plays, records and leaves. Oracle: what a stub, whose expert always solves, was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.cli.expert.collect_demonstrations import modality
from gr00t.data.lerobot.writer import LeRobotWriter
from gr00t.eval.takeovers.collector import PLAYED, TakeoverCollector, TakeoverJob, TakeoverPlan, read_played
from gr00t.libero.datagen.demonstrations import Recording
from gr00t.libero.expert.lifted import Lifted
from gr00t.libero.simulator.observation import StepResult
from gr00t.libero.simulator.simulator import SimulatorError
from gr00t.libero.simulator.snapshot import Moment
from tests.eval.rollout.stubs import TASKS, StubPolicy, StubSimulator

PLAN = TakeoverPlan("wide", max_steps=40, replan_steps=8, of_solved=1, of_failed=3, size=32)


class Simulator(StubSimulator):
    """Whose expert solves the task in four steps, and can be told to fail at its first takeovers."""

    def __init__(self, success_at: dict[tuple[int, int], int], failing_takeovers: int = 0) -> None:
        super().__init__(success_at, {})
        self.taken_over: list[tuple[int, int]] = []
        self.failing_takeovers = failing_takeovers

    def begin(self, init_state: int) -> StepResult:
        return self.start_episode(init_state)

    def execute_and_remember(self, actions: NDArray[np.float64]) -> tuple[StepResult, list[Moment]]:
        first = self._step
        result = self.execute(actions)
        snapshot: Any = None
        return result, [
            Moment(("", 0, 0), snapshot, action, step, Lifted(np.zeros(0), None))
            for step, action in enumerate(actions[: self._step - first], first)
        ]

    def take_over(self, moment: Moment, max_steps: int, size: int) -> Recording | None:
        if self.failing_takeovers > 0:
            self.failing_takeovers -= 1
            raise SimulatorError("GL went away")
        self.taken_over.append((self._init_state, moment.steps))
        grey = np.full((4, size, size, 3), moment.steps, np.uint8)
        return Recording(grey, grey, np.zeros((4, 8), np.float32), np.zeros((4, 7), np.float32))


def collector(folder: Path) -> TakeoverCollector:
    return TakeoverCollector(StubPolicy(), PLAN, LeRobotWriter(folder, modality(), 20))


def play(folder: Path, simulator: Simulator, *init_states: int) -> TakeoverCollector:
    found = collector(folder)
    for job in found.left([TakeoverJob(TASKS[1], 7, init_states)]):
        found.play(simulator, job, lambda: None)
    return found


def test_a_failed_episode_is_taken_over_thrice_and_a_solved_one_once(tmp_path: Path) -> None:
    simulator = Simulator({(1, 0): 20})
    found = play(tmp_path, simulator, 0, 1)
    assert simulator.placements == ["wide"]
    solved, failed = found.played
    assert (solved["solved"], solved["steps"], len(solved["takeovers"])) == (True, 20, 1)
    assert (failed["solved"], failed["steps"], len(failed["takeovers"])) == (False, 40, 3)
    taken = [(0, each["after"]) for each in solved["takeovers"]]
    taken += [(1, each["after"]) for each in failed["takeovers"]]
    assert simulator.taken_over == taken
    episodes = LeRobotWriter(tmp_path, modality(), 20).episodes
    assert [(line["init_state"], line["taken_over_after"], line["length"]) for line in episodes] == [
        (*each, 4) for each in taken
    ]
    assert [line["policy_solved"] for line in episodes] == [True, False, False, False]


def test_after_the_step_that_solved_the_task_nobody_takes_over(tmp_path: Path) -> None:
    found = play(tmp_path, Simulator({(1, 0): 1}), 0)
    assert found.played[0]["solved"]
    assert found.played[0]["takeovers"] == []


def test_a_killed_run_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    whole = Simulator({(1, 0): 20})
    play(tmp_path / "whole", whole, 0, 1, 2)
    play(tmp_path / "killed", Simulator({(1, 0): 20}), 0, 1)
    # Killed when the last episode's takeovers were written, and half of its line.
    path = tmp_path / "killed" / PLAYED
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:20]}")
    assert [line["init_state"] for line in read_played(tmp_path / "killed")] == [0]

    again = Simulator({(1, 0): 20})
    found = play(tmp_path / "killed", again, 0, 1, 2)
    # Episode 1 is played once more, and its takeovers, which are there, are not.
    assert {init_state for init_state, _ in again.taken_over} == {2}
    assert found.played == read_played(tmp_path / "killed") == read_played(tmp_path / "whole")
    keys = ("init_state", "taken_over_after")
    both = [
        [tuple(line[key] for key in keys) for line in LeRobotWriter(tmp_path / name, modality(), 20).episodes]
        for name in ("killed", "whole")
    ]
    assert both[0] == both[1] == whole.taken_over


def test_a_simulator_that_fails_is_opened_anew_and_a_lost_episode_is_told(tmp_path: Path) -> None:
    simulator = Simulator({}, failing_takeovers=1)
    found = play(tmp_path / "once", simulator, 3)
    assert simulator.opened == [1, 1]
    assert len(found.played[0]["takeovers"]) == 3

    lost = play(tmp_path / "twice", Simulator({}, failing_takeovers=2), 3, 4)
    assert lost.played[0]["simulator_error"] == "GL went away"
    assert len(lost.played[1]["takeovers"]) == 3
    # An episode that was lost is none that is left.
    assert lost.left([TakeoverJob(TASKS[1], 7, (3, 4))]) == []
