"""Compare a policy's actions with recorded ones, step by step, without a robot or a simulator.

    python scripts/eval_policy.py --dataset-path FOLDER --model-path nvidia/GR00T-N1.5-3B --trajs 5 --plot
    python scripts/eval_policy.py --dataset-path FOLDER --port 5555

Without --model-path a running server is asked, NVIDIA's as well. The GR00T_DUQUANT_* variables quantize a
model that is loaded here; of a server, what it says of itself is printed. Flow noise follows from --seed,
episode and step, so two runs differ by the policies alone: W4A8 is compared with bf16 by one run of each.

Errors are in the units of the data. The last line is the result as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.cli.running import run_command
from gr00t.data.dataset import ModalityConfig
from gr00t.eval.open_loop import Error, Followed, follow, mean_error
from gr00t.serving.client import ExternalRobotInferenceClient, ServerError
from gr00t.spelling import did_you_mean

if TYPE_CHECKING:
    from gr00t.data.lerobot.single_dataset import LeRobotSingleDataset

_PLOT = "open_loop.png"
_NEEDED = ("av", "pyarrow")


@dataclasses.dataclass(frozen=True)
class OpenLoopArguments:
    """Compare a policy's actions with recorded ones."""

    dataset_path: Path
    """Folder of the recorded episodes, in LeRobot's layout."""
    model_path: str | None = None
    """Checkpoint folder or model hub id to load; without it, a server is asked."""
    host: str = "localhost"
    """Of the server."""
    port: int = 5555
    """Of the server."""
    api_token: str | None = None
    """Of the server, if it has one."""
    data_config: str | None = None
    """With --model-path: keys and transforms, a registered name or "module:Class"; default: LIBERO's."""
    embodiment_tag: str = "new_embodiment"
    """With --model-path: whose statistics and projections are used."""
    denoising_steps: int | None = None
    """With --model-path: Euler steps per action chunk; the checkpoint's own number if not given."""
    device: str | None = None
    """With --model-path: cpu, cuda or cuda:N; a GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """With --model-path: precision of what is not quantized."""
    base: str | None = None
    """With --model-path: the checkpoint that an adapter was trained on."""
    tokenizer: str | None = None
    """With --model-path: folder or hub id of the tokenizer, for a checkpoint that has none."""
    prompt_style: Literal["brackets", "plain"] = "brackets"
    """With --model-path: the instruction in the prompt, ['TEXT'] or TEXT."""
    trajs: int = 1
    """How many episodes."""
    start_traj: int = 0
    """The first one's number."""
    steps: int = 150
    """Time steps of each, at most its own."""
    action_horizon: int | None = None
    """Steps from one answer to the next; default: as many as the policy predicts."""
    modality_keys: tuple[str, ...] = ()
    """Actions to compare, without "action."; default: all of the policy's."""
    seed: int | None = 0
    """Of the flow noise; None: whatever the policy draws."""
    plot: bool = False
    """Draw recorded and predicted actions."""
    plot_state: bool = False
    """With the states of the same keys."""
    save_plot_path: str | None = None
    """File for the drawing, .png, .svg or .pdf (default with --plot: open_loop.png)."""
    video_backend: Literal["torchcodec", "decord", "torchvision_av"] = "torchcodec"
    """Taken for the sake of N1.5's commands; PyAV decodes."""


@dataclasses.dataclass(frozen=True)
class OpenLoopPolicy:
    """What is evaluated.

    Attributes:
        name: for people.
        quantized: what it says of its quantization.
        modalities: keys and time steps.
        act: returns actions for an observation, with a seed of its noise.
    """

    name: str
    quantized: str
    modalities: dict[str, ModalityConfig]
    act: Callable[[dict[str, Any], int | None], Mapping[str, Any]]


@contextlib.contextmanager
def opened_policy(arguments: OpenLoopArguments) -> Iterator[OpenLoopPolicy]:
    """Load the policy, or connect to its server."""
    if arguments.model_path is not None:
        yield loaded_policy(arguments, arguments.model_path)
        return
    client = ExternalRobotInferenceClient(arguments.host, arguments.port, api_token=arguments.api_token)
    with client:
        yield OpenLoopPolicy(
            name=f"server at {client.address}",
            quantized=served_quantization(client),
            modalities=client.get_modality_config(),
            act=lambda observation, seed: client.get_action(observation, seed=seed),
        )


def loaded_policy(arguments: OpenLoopArguments, model_path: str) -> OpenLoopPolicy:
    """The policy of a checkpoint, quantized as the environment says."""
    from gr00t.experiment.checkpoint_data_config import load_policy

    policy = load_policy(
        model_path,
        arguments.data_config,
        base=arguments.base,
        dtype=arguments.dtype,
        embodiment_tag=arguments.embodiment_tag,
        denoising_steps=arguments.denoising_steps,
        device=arguments.device,
        tokenizer=arguments.tokenizer,
        prompt_style=arguments.prompt_style,
        environ=os.environ,
    )
    return OpenLoopPolicy(
        name=f"{model_path}, {policy.denoising_steps} denoising steps, {policy.device}",
        quantized=describe_quantization(policy.quantization_report()),
        modalities=policy.get_modality_config(),
        act=lambda observation, seed: policy.get_action(observation, seeds=seed),
    )


def served_quantization(client: ExternalRobotInferenceClient) -> str:
    """What a server says of the quantization of its model."""
    try:
        return describe_quantization(client.get_quantization_report())
    except ServerError as error:
        if "Unknown endpoint" not in error.reply:
            raise
        return "not told by this server"  # NVIDIA's knows no such question


def describe_quantization(report: Mapping[str, Any]) -> str:
    """A report in one line."""
    if not report.get("enabled") or not report.get("layers_quantized"):
        return "no"
    kinds = collections.Counter(layer["bits"] for layer in report["layers"].values())
    counts = ", ".join(f"{count} x {bits}" for bits, count in kinds.items() if bits != "W16 A16")
    calibrating = "; activation scales are still being calibrated" if report.get("calibrating") else ""
    return f"{report['layers_quantized']} layers ({counts}){calibrating}"


def plot_path(arguments: OpenLoopArguments) -> str | None:
    """Where to draw, if at all."""
    wanted = arguments.plot or arguments.plot_state
    return arguments.save_plot_path or (_PLOT if wanted else None)


def check_first(arguments: OpenLoopArguments) -> None:
    """Find before minutes are spent what would be found at the end.

    Raises:
        UsageError: flags that make no sense, a package is missing, or nothing can be drawn there.
    """
    if arguments.trajs < 1 or arguments.steps < 1:
        raise UsageError("--trajs and --steps: expected at least 1")
    if arguments.seed is not None and arguments.seed < 0:
        raise UsageError(f"--seed: expected at least 0, got {arguments.seed}")
    path = plot_path(arguments)
    needed = [*_NEEDED, "matplotlib"] if path is not None else _NEEDED
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed; run: scripts/setup_env.sh core train libero")
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in known:
        raise UsageError(f"--save-plot-path {path}: expected a name that ends with one of {', '.join(known)}")
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"--save-plot-path {path}: there is no such folder")


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


def run(arguments: OpenLoopArguments) -> None:
    """Compare, and say the result as JSON."""
    print(json.dumps(evaluate(arguments)))


def main() -> int:
    """Run as a program: 0 when all episodes were followed, 2 for wrong flags, 1 for everything else."""
    return run_command(OpenLoopArguments, run, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
