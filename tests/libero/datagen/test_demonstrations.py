"""Oracles: the mean of every cell, and what a stub simulator did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gr00t.libero.datagen import demonstrations
from gr00t.libero.datagen.demonstrations import demonstrate, shrink
from gr00t.libero.expert.motion import CLOSE, OPEN
from gr00t.libero.simulator.expert_episode import ExpertEpisode
from gr00t.libero.simulator.observation import Observation, StepResult


def test_images_are_averaged_by_cells_and_rounded() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    cells = [
        [image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean(axis=(0, 1)) for x in range(8)] for y in range(8)
    ]
    assert shrink(image, 8).tolist() == np.floor(np.array(cells) + 0.5).tolist()
    assert shrink(image, 32) is image
    with pytest.raises(ValueError, match="images of 32 pixels cannot be averaged down to 12"):
        shrink(image, 12)


class StubExpert:
    """Asks for three actions that the expert means, and sees a grey that counts the steps."""

    def __init__(self, success: bool) -> None:
        self.success = success
        self.executed: list[np.ndarray] = []

    def play(
        self,
        simulator: Any,
        init_state: int,
        max_steps: int,
        *,
        on_step: Callable[..., None],
        disturb: Callable[[np.ndarray], np.ndarray],
        prove: bool,
    ) -> ExpertEpisode:
        assert not prove, "the expert would play twice"
        for step, gripper in enumerate((OPEN, 0.0, CLOSE)):
            meant = np.array([2.0, 0.5, 0.0, 0.0, 0.0, 0.0, gripper])
            self.executed.append(disturb(meant))
            grey = np.full((8, 8, 3), 10 * step, np.uint8)
            on_step(lambda grey=grey, step=step: Observation(grey, grey + 1, np.full(8, step)), None, meant)
        return ExpertEpisode(self.success, np.array(self.executed), StepResult())


def test_a_recording_holds_what_was_meant_not_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    expert = StubExpert(success=True)
    monkeypatch.setattr(demonstrations, "play_expert", expert.play)
    simulator: Any = None
    recording = demonstrate(simulator, 4, 280, 0.3, 1, 4)
    assert recording is not None
    # Within the command's limits; the gripper as policies command it: 1 open, 0 closed.
    assert recording.actions.tolist() == [
        [1, 0.5, 0, 0, 0, 0, 1],
        [1, 0.5, 0, 0, 0, 0, 0.5],
        [1, 0.5, 0, 0, 0, 0, 0],
    ]
    assert np.abs(np.array(expert.executed)[:, :6] - recording.actions[:, :6]).max() > 0.05
    assert recording.image.shape == (3, 4, 4, 3)
    assert recording.image[:, 0, 0, 0].tolist() == [0, 10, 20]
    assert recording.wrist_image[:, 0, 0, 0].tolist() == [1, 11, 21]
    assert recording.states[:, 0].tolist() == [0, 1, 2]


def test_what_was_not_solved_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstrations, "play_expert", StubExpert(success=False).play)
    simulator: Any = None
    assert demonstrate(simulator, 4, 280, 0.3, 1, 4) is None
