"""The questions about labelled scenes that a training asks on the way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from examples.Libero.demo_policy.training.grounding import Questions
from examples.Libero.demo_policy.training.reaching import Reaching
from examples.Libero.demo_policy.training.scenes import SceneFiles
from gr00t.cli.training.program import LoadedTraining
from gr00t.data.transform.base import ModalityTransform
from gr00t.eval.rollout.episode import policy_input
from gr00t.libero.simulator.observation import Observation

_SCENES_AT_ONCE = 256


def questions_about(
    scenes: SceneFiles, loaded: LoadedTraining, *, instruction: str, batch_size: int, seed: int
) -> Questions:
    """A process' share of the questions about labelled scenes.

    Args:
        scenes: all of them.
        loaded: of the training.
        instruction: what is asked; {} stands for the name of an object.
        batch_size: scenes per step, of this process.
        seed: of what is asked.
    """
    model, group = loaded.model, loaded.group
    return Questions(
        *(model, scenes.images, scenes.centres, scenes.prompts(instruction), loaded.tokenizer),
        chosen=np.arange(group.rank, len(scenes.images), group.size),
        batch_size=batch_size,
        seed=seed,
        reaching=Reaching(model.action_head, *served_states(loaded.transform, scenes), scenes.ways()),
    )


def served_states(transform: ModalityTransform, scenes: SceneFiles) -> tuple[Tensor, int]:
    """States (N, S, max_state_dim) of the N scenes as the network would take them; the robot's number."""
    transform.eval()
    states = []
    for start in range(0, len(scenes.states), _SCENES_AT_ONCE):
        chosen = slice(start, start + _SCENES_AT_ONCE)
        shown = [
            policy_input(Observation(image, wrist_image, state), "")
            for (image, wrist_image), state in zip(scenes.images[chosen], scenes.states[chosen], strict=True)
        ]
        inputs = transform({key: np.stack([each[key] for each in shown]) for key in shown[0]})
        states.append(inputs["state"])
    return torch.cat(states).float(), int(inputs["embodiment_id"][0])
