"""The questions about labelled scenes that a training asks on the way, if it is told to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gr00t.cli.training.arguments import Arguments
from gr00t.cli.training.command_line import UsageError
from gr00t.data.transform.base import ModalityTransform
from gr00t.eval.rollout.episode import policy_input
from gr00t.libero.simulator.simulator import Observation
from gr00t.model.gr00t_n1 import GR00T_N1_5
from gr00t.model.preprocessing.tokenizer import PromptTokenizer
from gr00t.training.demo.grounding import Questions
from gr00t.training.demo.reaching import Reaching
from gr00t.training.demo.scenes import SceneFiles, load_scenes
from gr00t.training.distributed import Team

_SCENES_AT_ONCE = 256


def ask(
    arguments: Arguments,
    model: GR00T_N1_5,
    transform: ModalityTransform,
    tokenizer: PromptTokenizer,
    team: Team,
) -> Questions:
    """A process' share of the questions about labelled scenes.

    Raises:
        ValueError: there are no scenes, or --scene-batch cannot be shared.
    """
    if arguments.scenes is None:
        raise UsageError(
            "--grounding-weight: expected --scenes as well; scripts/collect_scenes.py makes them"
        )
    scenes = load_scenes(arguments.scenes)
    return Questions(
        *(model, scenes.images, scenes.centres, scenes.prompts(arguments.instruction), tokenizer),
        chosen=np.arange(team.rank, len(scenes.images), team.size),
        batch_size=team.share_of("--scene-batch", arguments.scene_batch),
        seed=arguments.seed,
        reaching=Reaching(model.action_head, *served_states(transform, scenes), scenes.ways()),
    )


def served_states(transform: ModalityTransform, scenes: SceneFiles) -> tuple[Tensor, int]:
    """States (N, S, max_state_dim) of the N scenes as the network would take them; the robot's number."""
    transform.eval()
    states = []
    for start in range(0, len(scenes.states), _SCENES_AT_ONCE):
        chosen = slice(start, start + _SCENES_AT_ONCE)
        shown = [
            policy_input(Observation(*images, state), "")
            for images, state in zip(scenes.images[chosen], scenes.states[chosen], strict=True)
        ]
        inputs = transform({key: np.stack([each[key] for each in shown]) for key in shown[0]})
        states.append(inputs["state"])
    return torch.cat(states).float(), int(inputs["embodiment_id"][0])
