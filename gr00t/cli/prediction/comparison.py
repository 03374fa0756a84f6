"""Follow recorded episodes by a policy's predictions; tell, draw and return by how much they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.cli.prediction.arguments import OpenLoopArguments, check_first, plot_path
from gr00t.cli.prediction.policy import OpenLoopPolicy, opened_policy
from gr00t.eval.open_loop import Error, Followed, follow, mean_error
from gr00t.spelling import did_you_mean

if TYPE_CHECKING:
    from gr00t.data.lerobot.single_dataset import LeRobotSingleDataset


def compared_keys(arguments: OpenLoopArguments, policy: OpenLoopPolicy) -> list[str]:
    """The actions to compare, without "action.".

    Raises:
        UsageError: the policy has none of such a name.
    """
    known = [key.removeprefix("action.") for key in policy.modalities["action"].modality_keys]
    keys = [key.removeprefix("action.") for key in arguments.modality_keys] or known
    for key in keys:
        if key not in known:
            raise UsageError(f"--modality-keys: the policy has no action {key!r}; {did_you_mean(key, known)}")
    return list(dict.fromkeys(keys))


def chosen_episodes(arguments: OpenLoopArguments, dataset: LeRobotSingleDataset) -> dict[int, int]:
    """The episodes to follow, and how many time steps of each.

    Raises:
        UsageError: there are not so many.
    """
    lengths = dict(zip(dataset.trajectory_ids.tolist(), dataset.trajectory_lengths.tolist(), strict=True))
    numbers = [number for number in lengths if number >= arguments.start_traj][: arguments.trajs]
    if len(numbers) < arguments.trajs:
        raise UsageError(
            f"--start-traj {arguments.start_traj} --trajs {arguments.trajs}: {arguments.dataset_path} has "
            f"{len(numbers)} such episodes; it has {len(lengths)}, numbered {min(lengths)} to {max(lengths)}"
        )
    return {number: min(arguments.steps, lengths[number]) for number in numbers}


def evaluate(arguments: OpenLoopArguments) -> dict[str, Any]:
    """Follow every episode; print a table, draw, and return the result."""
    check_first(arguments)
    from gr00t.data.lerobot.single_dataset import LeRobotSingleDataset

    with opened_policy(arguments) as policy:
        keys = compared_keys(arguments, policy)
        predicted = len(policy.modalities["action"].delta_indices)
        horizon = predicted if arguments.action_horizon is None else arguments.action_horizon
        if not 1 <= horizon <= predicted:
            raise UsageError(
                f"--action-horizon {horizon}: expected 1 to {predicted}, as many as the policy predicts"
            )
        dataset = LeRobotSingleDataset(
            arguments.dataset_path, policy.modalities, arguments.embodiment_tag, arguments.video_backend
        )
        episodes = chosen_episodes(arguments, dataset)
        print(f"policy: {policy.name}")
        print(f"quantized: {policy.quantized}")
        print(f"data: {dataset}, an answer every {horizon} steps\n\nepisode  steps          MSE          MAE")
        followed = []
        with tqdm(total=sum(episodes.values()), unit="step", disable=None) as bar:
            for number, steps in episodes.items():
                one = follow(
                    seeded(policy, arguments.seed, number),
                    dataset,
                    number,
                    keys,
                    steps,
                    horizon,
                    with_states=arguments.plot_state,
                )
                bar.update(steps)
                followed.append(one)
                tqdm.write(f"{number:7d}  {steps:5d}  {cells(one.error)}")
    return summarize(arguments, policy, keys, horizon, followed)


def seeded(
    policy: OpenLoopPolicy, seed: int | None, episode: int
) -> Callable[[dict[str, Any], int], Mapping[str, Any]]:
    """The policy with the noise of an episode: the same in every run."""

    def act(observation: dict[str, Any], step: int) -> Mapping[str, Any]:
        if seed is None:
            return policy.act(observation, None)
        (chosen,) = np.random.SeedSequence([seed, episode, step]).generate_state(1).tolist()
        return policy.act(observation, chosen)

    return act


def summarize(
    arguments: OpenLoopArguments,
    policy: OpenLoopPolicy,
    keys: list[str],
    horizon: int,
    followed: list[Followed],
) -> dict[str, Any]:
    """Print the means, write the drawing, and return everything as plain data."""
    by_key = {key: mean_error([one.errors()[key] for one in followed]) for key in keys}
    overall = mean_error([one.error for one in followed])
    width = max(map(len, ["key", *keys]))
    print(f"\n{'key':{width}}          MSE          MAE")
    for key, error in by_key.items():
        print(f"{key:{width}} {cells(error)}")
    print(f"\nAverage MSE across all trajs: {overall.mse}\nAverage MAE across all trajs: {overall.mae}")
    path = plot_path(arguments)
    if path is not None:
        from gr00t.eval.open_loop_plot import save

        save(path, followed)
        print(f"plot: {path}")
    return {
        "mse": overall.mse,
        "mae": overall.mae,
        "keys": {key: dataclasses.asdict(error) for key, error in by_key.items()},
        "episodes": {
            one.episode: {"steps": len(one.recorded), **dataclasses.asdict(one.error)} for one in followed
        },
        "action_horizon": horizon,
        "seed": arguments.seed,
        "policy": policy.name,
        "quantized": policy.quantized,
        "plot": path,
    }


def cells(error: Error) -> str:
    """Two columns of a table."""
    return f"{error.mse:12.6g} {error.mae:12.6g}"
