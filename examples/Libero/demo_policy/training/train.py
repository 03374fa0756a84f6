"""Train the demonstration policy on demonstrations, with losses that teach a network from nothing to look.

    python -m examples.Libero.demo_policy.training.train --waypoint-weight 2 ...

It is scripts/train.py with two losses beside flow matching, and with all of its flags.

    torchrun --nproc-per-node 2 -m examples.Libero.demo_policy.training.train ...

divides every batch among processes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from examples.Libero.demo_policy.training.grounding import GroundingLoss
from examples.Libero.demo_policy.training.scene_questions import questions_about
from examples.Libero.demo_policy.training.scenes import load_scenes
from examples.Libero.demo_policy.training.waypoints import WaypointLoss, normalized_waypoints
from gr00t.cli.errors import UsageError
from gr00t.cli.training.arguments import TrainArguments
from gr00t.cli.training.command import train_as_asked
from gr00t.cli.training.program import LoadedTraining
from gr00t.training.losses import Loss
from gr00t.training.trainer import FLOW_MATCHING


@dataclasses.dataclass(frozen=True)
class DemoTrainArguments(TrainArguments):
    """Train the demonstration policy on demonstrations in the LeRobot layout."""

    waypoint_weight: float = 0.0
    """Of an auxiliary loss: where the hand will be when the gripper next moves; helps from scratch."""
    grounding_weight: float = 0.0
    """Of another one: where the object stands that an instruction names, in the scenes of --scenes."""
    scenes: Path | None = None
    """Folder of labelled scenes, from collect_scenes.py."""
    scene_batch: int = 16
    """Scenes per step."""
    instruction: str = "pick up the {} and place it in the basket"
    """What is asked of a scene; {} stands for the name of the object."""

    def check(self) -> None:
        """Refuse weights and scenes that make no sense."""
        for name in ("waypoint_weight", "grounding_weight"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise UsageError(f"--{name.replace('_', '-')}: expected a number >= 0, got {weight}")
        if self.scene_batch < 1:
            raise UsageError(f"--scene-batch: expected at least 1, got {self.scene_batch}")
        if self.grounding_weight and self.scenes is None:
            raise UsageError("--grounding-weight: expected --scenes as well; collect_scenes.py makes them")


def losses_of(arguments: DemoTrainArguments, loaded: LoadedTraining) -> Sequence[Loss]:
    """Flow matching, and what is asked for beside it.

    Raises:
        ValueError: scenes or demonstrations that this cannot be learned from, or that cannot be shared.
    """
    losses: list[Loss] = [FLOW_MATCHING]
    if arguments.waypoint_weight:
        waypoints = normalized_waypoints(loaded.samples)
        losses.append(WaypointLoss(loaded.model, waypoints, arguments.waypoint_weight))
    if arguments.grounding_weight:
        assert arguments.scenes is not None, "checked"
        questions = questions_about(
            load_scenes(arguments.scenes),
            loaded,
            instruction=arguments.instruction,
            batch_size=loaded.group.share_of("--scene-batch", arguments.scene_batch),
            seed=arguments.seed,
        )
        losses.append(GroundingLoss(questions, arguments.grounding_weight))
    return losses


def main() -> int:
    """Run as a program."""
    return train_as_asked(DemoTrainArguments, __doc__, losses_of)


if __name__ == "__main__":
    raise SystemExit(main())
