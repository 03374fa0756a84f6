"""Open-loop evaluation under N1.5's names; `scripts/eval_policy.py` is the program."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from gr00t.eval.open_loop import Followed, Recordings, follow

logger = logging.getLogger(__name__)


def calc_mse_for_single_trajectory(
    policy: Any,
    dataset: Recordings,
    traj_id: int,
    modality_keys: Sequence[str],
    steps: int = 300,
    action_horizon: int = 16,
    plot: bool = False,
    plot_state: bool = False,
    save_plot_path: str | None = None,
) -> float:
    """Return the mean squared error of a policy's actions along an episode, in the units of the data.

    Args:
        policy: has `get_action(observation)`: a policy, or the client of one.
        dataset: a `LeRobotSingleDataset` of the policy's modalities.
        traj_id: number of the episode.
        modality_keys: actions to compare, without `action.`.
        steps: how many; behind the end of the episode its last row counts on, as in N1.5.
        action_horizon: steps from one answer to the next.
        plot: show a plot.
        plot_state: with the states of the same keys.
        save_plot_path: write the plot to this file instead.

    Raises:
        OpenLoopError: keys or steps that one side does not have; inf or nan in an answer.
    """

    def act(observation: dict[str, Any], step: int) -> Mapping[str, Any]:
        logger.info("inferencing at step: %d", step)
        actions: Mapping[str, Any] = policy.get_action(observation)
        return actions

    followed = follow(act, dataset, traj_id, modality_keys, steps, action_horizon, with_states=plot_state)
    mse = followed.error.mse
    logger.info("Unnormalized Action MSE across single traj: %s", mse)
    if plot or save_plot_path is not None:
        _plot(followed, save_plot_path)
    return mse


def download_from_hg(repo_id: str, repo_type: str) -> str:
    """Download a model or data set from the hub; return its folder."""
    from huggingface_hub import snapshot_download

    return str(snapshot_download(repo_id, repo_type=repo_type))


def _plot(followed: Followed, path: str | None) -> None:
    from gr00t.eval.open_loop_plot import draw, save

    if path is not None:
        save(path, [followed])
        logger.info("plot: %s", path)
        return
    import matplotlib.pyplot as plt

    draw(plt.figure(), [followed])
    plt.show()
