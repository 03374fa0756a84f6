"""The expert takes over from whoever has played an episode so far, and its actions become a demonstration.

A policy that learned from demonstrations alone meets states that none of them shows: its own mistakes lead
there (DAgger, Ross et al. 2011, arXiv 1011.0686). What to do in these is what it has to be shown. Here the
expert does not comment on every state but plays on, as people do (HG-DAgger, Kelly et al. 2019, arXiv
1810.02890): so the actions of a chunk belong together, and what is kept has been seen to work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.datagen.demonstrations import Recording, StepRecorder
from gr00t.libero.simulator.expert_episode import play_on
from gr00t.libero.simulator.observation import StepResult
from gr00t.libero.simulator.simulator import LiberoSimulator
from gr00t.libero.simulator.snapshot import Moment


def begin(simulator: LiberoSimulator, init_state: int) -> StepResult:
    """Begin an episode; that the expert can solve a wide placement is not proven: what is kept was solved."""
    result = simulator.settle(init_state, prove=False)
    result.observation = simulator.observe(result)
    return result


def execute_and_remember(
    simulator: LiberoSimulator, actions: NDArray[np.float64]
) -> tuple[StepResult, list[Moment]]:
    """Execute actions (N, 7) until they or the task are done; with a moment for each that was executed."""
    result = StepResult()
    moments = []
    for action in actions:
        moments.append(simulator.moment(action))
        simulator.step(action, result)
        if result.success:
            break
    else:
        result.observation = simulator.observe(result)
    return result, moments


def take_over(simulator: LiberoSimulator, moment: Moment, max_steps: int, size: int) -> Recording | None:
    """Go back to a moment of an episode, let the expert play from there, and record it.

    Args:
        simulator: has the task of the episode open.
        moment: after whose action the expert takes over.
        max_steps: control steps after which the expert has failed.
        size: side of the recorded images, see `StepRecorder`.

    Returns:
        The recording; None if the task was not solved, or was solved already.
    """
    result = StepResult()
    simulator.go_back(moment, result)
    recorder = StepRecorder(size)
    episode = play_on(simulator, result, max_steps, on_step=recorder)
    return recorder.recording() if episode.success and episode.steps else None
