"""Open-loop evaluation. Oracle: errors computed here from the parquet files and from what the policy does.

On NVIDIA's demonstrations, against one server, N1.5's own eval_policy.py with its own reader printed the same
sixteen digits as this program (2026-11-30).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gr00t.cli import open_loop
from gr00t.cli.prediction.policy import served_quantization
from gr00t.data.dataset import LeRobotSingleDataset, ModalityConfig
from gr00t.data.lerobot.writer import Demonstration, LeRobotWriter
from gr00t.eval.open_loop import OpenLoopError, follow
from gr00t.serving.client import ServerError
from gr00t.utils.eval import calc_mse_for_single_trajectory
from tests.serving.socket_helpers import client_at, serving

HORIZON = 4
CONFIG = {
    "state": ModalityConfig(delta_indices=[0], modality_keys=["state.x"]),
    "action": ModalityConfig(delta_indices=list(range(HORIZON)), modality_keys=["action.x", "action.grip"]),
    "language": ModalityConfig(delta_indices=[0], modality_keys=["annotation.task"]),
}
MODALITY = {
    "state": {"x": {"start": 0, "end": 2}},
    "action": {"x": {"start": 0, "end": 2}, "grip": {"start": 2, "end": 3}},
    "video": {},
    "annotation": {"task": {"original_key": "task_index"}},
}
LENGTHS = [11, 6, 9]


class StayingPolicy:
    """Answers that the hand stays where it is, and with a grip of which half is its seed's noise."""

    can_batch = False

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.seeds: list[int | None] = []

    def get_action(self, observations: dict[str, Any], *, seeds: int | None = None) -> dict[str, Any]:
        self.seen.append(observations)
        self.seeds.append(seeds)
        noise = np.random.default_rng(seeds).normal() if seeds is not None else 0.0
        return {
            "action.x": np.repeat(np.asarray(observations["state.x"], np.float32), HORIZON, axis=0),
            "action.grip": np.full(HORIZON, 0.5 + noise, np.float32),
        }

    def get_modality_config(self) -> dict[str, Any]:
        return CONFIG

    def quantization_report(self) -> dict[str, Any]:
        layers = {name: {"bits": "W4 A8"} for name in "ab"} | {"c": {"bits": "W16 A16"}}
        return {"enabled": True, "layers_quantized": 2, "layers": layers, "calibrating": False}


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return open_loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "recorded"
    writer = LeRobotWriter(folder, MODALITY, fps=20)
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        state, action = (rng.normal(size=(length, width)).astype(np.float32) for width in (2, 3))
        writer.add(Demonstration("lift it", state, action, {}, {}))
    return folder


@pytest.fixture
def dataset(folder: Path) -> LeRobotSingleDataset:
    return LeRobotSingleDataset(folder, CONFIG, "new_embodiment")


def differences(folder: Path, episode: int, steps: int, grip: float = 0.5) -> np.ndarray:
    """(steps, 3): what `StayingPolicy` gets wrong; it is asked at every fourth step."""
    table = pq.read_table(folder / f"data/chunk-000/episode_{episode:06d}.parquet")
    state, action = (np.asarray(table[name].to_pylist()) for name in ("observation.state", "action"))
    asked = np.arange(steps) // HORIZON * HORIZON
    return np.column_stack([state[asked], np.full(steps, grip)]) - action[:steps]


@pytest.fixture
def served() -> Iterator[tuple[StayingPolicy, int]]:
    policy = StayingPolicy()
    with serving(policy) as (_, port):
        yield policy, port


def run(
    program: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *flags: Any
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["eval_policy.py", *map(str, flags)])
    try:
        status = program.main()
    except SystemExit as ended:
        status = ended.code
    told = capsys.readouterr()
    return status, told.out, told.err


def test_errors_of_a_served_policy(
    program: ModuleType,
    served: tuple[StayingPolicy, int],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, port = served
    flags = ["--dataset-path", folder, "--port", port, "--trajs", 2, "--steps", 9, "--seed", "None"]
    plot = tmp_path / "plot.png"
    status, out, _ = run(program, capsys, monkeypatch, *flags, "--save-plot-path", plot, "--plot-state")
    assert status == 0
    result = json.loads(out.splitlines()[-1])
    wrong = [differences(folder, 0, 9), differences(folder, 1, 6)]  # the second episode has 6 steps
    assert result["mse"] == pytest.approx(np.mean([np.mean(each**2) for each in wrong]), rel=1e-6)
    assert result["mae"] == pytest.approx(np.mean([np.abs(each).mean() for each in wrong]), rel=1e-6)
    assert result["keys"]["x"]["mse"] == pytest.approx(np.mean([np.mean(w[:, :2] ** 2) for w in wrong]))
    assert result["keys"]["grip"]["mae"] == pytest.approx(np.mean([np.abs(w[:, 2]).mean() for w in wrong]))
    assert {key: value["steps"] for key, value in result["episodes"].items()} == {"0": 9, "1": 6}
    assert "quantized: 2 layers (2 x W4 A8)\n" in out
    assert f"Average MSE across all trajs: {result['mse']}\n" in out
    # Asked at 0, 4, 8 and at 0, 4; the recorded actions are not shown to it.
    assert len(policy.seen) == 5
    assert {key for seen in policy.seen for key in seen} == {"state.x", "annotation.task"}
    with Image.open(plot) as image:
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50


def test_noise_follows_from_seed_episode_and_step(
    program: ModuleType,
    served: tuple[StayingPolicy, int],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, port = served
    flags = ["--dataset-path", folder, "--port", port, "--trajs", 2, "--modality-keys", "grip"]
    results = [
        json.loads(run(program, capsys, monkeypatch, *flags, *more)[1].splitlines()[-1])
        for more in ([], [], ["--seed", 1], ["--start-traj", 1, "--trajs", 1])
    ]
    assert results[0] == results[1]
    assert results[0]["mse"] != results[2]["mse"]
    assert results[0]["episodes"]["1"] == results[3]["episodes"]["1"]
    assert len(set(policy.seeds[:5])) == 5


@pytest.mark.parametrize(
    ("flags", "status", "problem"),
    [
        (
            ["--modality-keys", "gripp"],
            2,
            "the policy has no action 'gripp'; did you mean grip",
        ),
        (["--action-horizon", 5], 2, "--action-horizon 5: expected 1 to 4, as many as the policy predicts"),
        (["--action-horizon", 0], 2, "--action-horizon 0: expected 1 to 4"),
        (["--start-traj", 1, "--trajs", 3], 2, "recorded has 2 such episodes; it has 3, numbered 0 to 2"),
        (["--trajs", 0], 2, "--trajs and --steps: expected at least 1"),
        (["--save-plot-path", "x.jgp"], 2, "--save-plot-path x.jgp: expected a name that ends with one of"),
        (["--save-plot-path", "none/x.png"], 2, "--save-plot-path none/x.png: there is no such folder"),
        (["--dataset-path", "nowhere"], 1, "Dataset path nowhere does not exist"),
        (["--embodiment-tag", "gr2"], 1, "unknown embodiment tag 'gr2'; did you mean gr1"),
        (["--seed", -1], 2, "--seed: expected at least 0, got -1"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    program: ModuleType,
    served: tuple[StayingPolicy, int],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[Any],
    status: int,
    problem: str,
) -> None:
    given = ["--dataset-path", folder, "--port", served[1], *flags]
    ended, _, err = run(program, capsys, monkeypatch, *given)
    assert ended == status
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert problem in line


def test_without_a_server_it_says_how_to_start_one(
    program: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--dataset-path", folder, "--host", "no.such.host"]
    status, _, err = run(program, capsys, monkeypatch, *flags)
    assert status == 1
    assert "error: no server at tcp://no.such.host:5555" in err
    assert "scripts/inference_service.py --server --model-path" in err


def test_n1_5s_function_counts_the_padded_steps_too(
    dataset: LeRobotSingleDataset, folder: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "one.png"
    mse = calc_mse_for_single_trajectory(
        StayingPolicy(), dataset, 1, ["grip"], steps=8, action_horizon=3, save_plot_path=str(plot)
    )
    grip = differences(folder, 1, 6)[:, 2]
    padded = np.append(grip, [grip[-1]] * 2)  # 6 steps, then the last one again
    assert mse == pytest.approx(np.mean(padded**2), rel=1e-6)
    assert plot.stat().st_size > 1000


def test_a_server_that_fails_to_tell_whether_it_is_quantized_is_no_server_that_cannot_tell(
    program: ModuleType,
) -> None:
    with serving(StayingPolicy()) as (server, port), client_at(port) as client:
        assert served_quantization(client) == "2 layers (2 x W4 A8)"
        del server._endpoints["get_quantization_report"]
        assert served_quantization(client) == "not told by this server"
        server.register_endpoint("get_quantization_report", _fail, requires_input=False, immediate=True)
        with pytest.raises(ServerError, match="no report"):
            served_quantization(client)


def _fail() -> None:
    raise RuntimeError("no report")


def test_states_are_drawn_where_they_are_what_actions_are(
    dataset: LeRobotSingleDataset, caplog: pytest.LogCaptureFixture
) -> None:
    policy = StayingPolicy()

    def act(observation: dict[str, Any], step: int) -> dict[str, Any]:
        return policy.get_action(observation)

    followed = follow(act, dataset, 0, ["x"], 5, HORIZON, with_states=True)
    assert followed.states is not None
    assert followed.states[0].tolist() == followed.predicted[0].tolist()
    assert followed.states[1].tolist() != followed.predicted[1].tolist()
    assert followed.columns == ["x[0]", "x[1]"]
    assert follow(act, dataset, 0, ["x", "grip"], 5, HORIZON, with_states=True).states is None
    assert "there is no state of the name and width of grip: states are left out" in caplog.text


def test_answers_that_cannot_be_compared(dataset: LeRobotSingleDataset) -> None:
    def acting(**actions: Any) -> Any:
        answer = {f"action.{key}": np.asarray(value) for key, value in actions.items()}
        return lambda observation, step: answer

    good = {"x": np.zeros((4, 2)), "grip": np.zeros(4)}
    for change, keys, problem in [
        ({"grip": np.full(4, np.nan)}, ["x", "grip"], "episode 0: the policy answers with inf or nan"),
        ({"grip": np.zeros(2)}, ["grip"], "the policy's answer: grip has 2 steps, a horizon of at least 3"),
        ({"x": np.zeros((4, 3))}, ["x"], "the policy answers with 3 numbers for x, recorded are 2"),
        ({}, ["hand"], "the recorded actions: there is no 'hand'"),
        ({}, [], "expected at least one key"),
    ]:
        with pytest.raises(OpenLoopError, match=problem):
            follow(acting(**{**good, **change}), dataset, 0, keys, 4, 4)
    with pytest.raises(OpenLoopError, match="the recorded actions: x has 4 steps, a horizon of at least 5"):
        follow(acting(x=np.zeros((9, 2))), dataset, 0, ["x"], 9, 9)
