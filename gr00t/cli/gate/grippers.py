"""Which actions are grippers: they open or close, and are no motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gr00t.cli.errors import UsageError
from gr00t.spelling import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gr00t.model.policy import Gr00tPolicy


def gripper_sides(named: Sequence[str], policy: Gr00tPolicy) -> dict[str, NDArray[np.float64]]:
    """The action keys that are grippers, and where each changes sides: halfway between its ends in training.

    Args:
        named: keys that somebody has named; empty: those with "gripper" in their name.
        policy: whose actions they are.

    Raises:
        UsageError: there is no such action.
    """
    statistics = policy.metadata.statistics.action
    known = [key.removeprefix("action.") for key in policy.modality_config["action"].modality_keys]
    wanted = [key.removeprefix("action.") for key in named]
    for key in wanted:
        if key not in known:
            raise UsageError(f"--gripper {key}: the policy has no such action; {did_you_mean(key, known)}")
    chosen = wanted or [key for key in known if "gripper" in key]
    return {key: (statistics[key].min + statistics[key].max) / 2 for key in chosen}
