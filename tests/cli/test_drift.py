"""The drift gate on a small random checkpoint and on the demonstration policy.

Oracles: the metric, computed here from policies that were loaded and quantized without it; and the policy
itself, which has no error.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples.Libero.custom_data_config import LiberoDataConfig
from examples.Libero.demo_data_config import DemoDataConfig
from gr00t.cli import drift
from gr00t.cli.calibration.arguments import CalibrateArguments
from gr00t.cli.calibration.program import calibrate
from gr00t.cli.calibration.sources import request_seed
from gr00t.eval.drift import plot
from gr00t.model.policy import Gr00tPolicy
from gr00t.quantization.settings.environment import to_environ
from gr00t.serving.observation_file import EPISODE, write_observations
from gr00t.testing.synthetic import synthetic_observation
from tests.serving.socket_helpers import serving
from tests.shell import REPO

LAYERS = 2 * 7 + 4 * 2
EXECUTED = 8
CAMERA = "video.image"
RTN = {"WSCALE": "channel", "PERMUTE": "0", "ROTATION": "none", "ROW_ROT": "0", "CALIB_STEPS": "0", "LS": "0"}

Run = Callable[..., tuple[int, list[str], str]]


def load(folder: Path, settings: dict[str, str], config: Any = LiberoDataConfig) -> Gr00tPolicy:
    data = config()
    return Gr00tPolicy(
        folder,
        "new_embodiment",
        data.modality_config(),
        data.transform(),
        2,
        "cpu",
        torch_dtype=torch.float32,
        environ=to_environ(settings),
    )


@pytest.fixture(scope="module")
def policy(checkpoint: Path) -> Gr00tPolicy:
    """The base."""
    return load(checkpoint, {})


def observations(policy: Gr00tPolicy, count: int, first_seed: int) -> list[dict[str, Any]]:
    """Two of an episode."""
    return [
        {
            **synthetic_observation(policy.modality_config, policy.metadata, "open it", first_seed + index),
            EPISODE: index // 2,
        }
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def files(policy: Gr00tPolicy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Those that judge, and others that calibrate."""
    folder = tmp_path_factory.mktemp("observations")
    judging, calibrating = folder / "judging", folder / "calibrating"
    write_observations(judging, observations(policy, 6, 0))
    write_observations(calibrating, observations(policy, 4, 100))
    return judging, calibrating


@pytest.fixture
def run(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The program; status, lines and what was said."""

    def call(*flags: Any, model: Path | None = checkpoint) -> tuple[int, list[str], str]:
        chosen = ["--denoising-steps", "2", "--device", "cpu", "--plot", tmp_path / "drift.png", *flags]
        chosen += [] if model is None else ["--model", model]
        monkeypatch.setattr(sys, "argv", ["drift.py", *map(str, chosen)])
        status = drift.main()
        told = capsys.readouterr()
        return status, told.out.splitlines(), told.err

    return call


def recipe(path: Path, *, calibrate: bool = False, **settings: str) -> Path:
    lines = [f"calibrate = {str(calibrate).lower()}", "[duquant]"]
    path.write_text("\n".join(lines + [f'{name} = "{text}"' for name, text in settings.items()]))
    return path


def answered(policy: Gr00tPolicy, count: int) -> np.ndarray:
    """(count, H, 7), the gripper last, as the program asks."""
    return np.stack(
        [
            np.concatenate(
                [
                    part.reshape(len(part), -1)
                    for part in policy.get_action(seen, seeds=request_seed(0, index)).values()
                ],
                axis=1,
            )
            for index, seen in enumerate(observations(policy, count, 0))
        ]
    ).astype(np.float64)


def test_each_arm_is_measured_as_a_policy_of_its_own_would_be(
    checkpoint, policy, files, run, tmp_path, caplog
):
    """And the arm that is the policy has no error at all."""
    same = recipe(tmp_path / "same.toml", ENABLE="0")
    worse = recipe(tmp_path / "worse.toml", WBITS_DEFAULT="2", **RTN)
    better = recipe(tmp_path / "better.toml", WBITS_DEFAULT="8", **RTN)
    flags = ["--dtype", "float32", "--observations", files[0], "--arms", f"{same},{worse},{better}"]
    status, lines, told = run(*flags)
    found = json.loads(lines[-1])
    assert found["judged"] == {"from": "file judging", "observations": 6, "episodes": 3}
    arms = found["arms"]
    assert list(arms) == ["same", "worse", "better"]
    assert (arms["same"]["err"], arms["same"]["flips"], arms["same"]["verdict"]) == (0.0, 0.0, None)
    assert (arms["same"]["jerk"], arms["same"]["quantized"]["layers"]) == (1.0, 0)

    expected = answered(policy, 6)
    for name, bits in (("worse", "2"), ("better", "8")):
        got = answered(load(checkpoint, {"WBITS_DEFAULT": bits, **RTN}), 6)
        moved, motion = (values[:, :EXECUTED, :6] for values in (got, expected))
        errors = np.linalg.norm(moved - motion, axis=(1, 2)) / np.linalg.norm(motion, axis=(1, 2))
        assert arms[name]["errors"] == pytest.approx(errors.tolist(), rel=1e-9)
        assert arms[name]["err"] == pytest.approx(float(np.exp(np.log(errors).mean())), rel=1e-9)
        # LIBERO's gripper is 0 or 1 in training.
        sides = [values[:, :EXECUTED, 6] > 0.5 for values in (got, expected)]
        assert arms[name]["flips"] == np.mean(sides[0] != sides[1])
        assert arms[name]["quantized"]["layers"] == LAYERS
        assert arms[name]["quantized"]["rounding"] == {"nearest": LAYERS}
    assert arms["worse"]["err"] > 3 * arms["better"]["err"] > 0
    assert arms["worse"]["verdict"] == "reject"
    assert re.search(r"^same +0\.0000 .* not quantized$", "\n".join(lines), re.MULTILINE)
    assert "judged by 3 episodes: their interval is wide; with 6 and more a verdict says more" in told
    assert status == drift.REJECTED
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert "findfont" not in told + caplog.text
    assert (
        f"worse: {LAYERS} layers ({LAYERS} x W2 A8), rounded nearest, scales dynamic per token, sums by"
        in ("\n".join(lines))
    )


def test_calibrated_arms_are_calibrated_by_others_and_the_floor_has_a_row(files, run, tmp_path):
    """Static scales and feedback: of one recording for both arms."""
    static = recipe(tmp_path / "static.toml", calibrate=True, CALIB_STEPS="3", LS="0.5")
    dynamic = recipe(tmp_path / "dynamic.toml", calibrate=True, CALIB_STEPS="0", WBITS_DEFAULT="8")
    flags = ["--observations", files[0], "--calibration", files[1], "--arms", f"{static},{dynamic}"]
    status, lines, told = run(*flags)
    assert status in (0, drift.REJECTED)
    found = json.loads(lines[-1])
    assert list(found["arms"]) == ["bfloat16", "static", "dynamic"]
    assert 0 < found["arms"]["bfloat16"]["err"] < found["arms"]["dynamic"]["err"] < 0.2
    for name, scale in (
        ("static", "static per input channel, folded"),
        ("dynamic", "dynamic per token"),
    ):
        quantized = found["arms"][name]["quantized"]
        assert quantized["rounding"] == {"feedback": LAYERS}
        assert quantized["activation_scales"] == {scale: LAYERS}
        assert quantized["calibrated"] == "4 requests (file calibrating)"
    assert len(re.findall(r"recording: +0%", told)) == 1


def test_packs_are_not_judged_by_what_calibrated_them(checkpoint, files, run, tmp_path, monkeypatch):
    packs = tmp_path / "packs"
    environ = to_environ({"WBITS_DEFAULT": "4", "CALIB_STEPS": "0", "LS": "0.5", "PACKDIR": str(packs)})
    calibrate(
        CalibrateArguments(
            str(checkpoint), observations=files[0], requests=5, device="cpu", denoising_steps=2
        ),
        environ,
    )
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    status, lines, told = run("--observations", files[0], "--arms", "environment")
    assert (status, lines) == (1, [])
    assert "error: arm environment: 5 of the observations to judge by are among those to calibrate" in told
    status, lines, told = run("--observations", files[1], "--arms", "environment")
    assert status in (0, drift.REJECTED)
    assert "is not recorded" not in told
    assert json.loads(lines[-1])["arms"]["environment"]["quantized"]["calibrated"].startswith("packs of ")


def test_one_file_is_parted_by_episodes(files, run, tmp_path):
    arm = recipe(tmp_path / "arm.toml", calibrate=True, CALIB_STEPS="2")
    _, lines, _ = run("--observations", files[0], "--judged", "3", "--arms", arm)
    found = json.loads(lines[-1])
    assert found["judged"] == {"from": "file judging", "observations": 4, "episodes": 2}
    assert found["calibrated"] == {"from": "other episodes of file judging", "observations": 2}


@contextlib.contextmanager
def served(policy: Any) -> Iterator[str]:
    with serving(policy) as (_, port):
        yield f"localhost:{port}"


def test_a_server_of_the_policy_has_no_error(policy, files, run):
    with served(policy) as address:
        status, lines, _ = run(
            "--observations", files[0], "--arms", f"itself={address}", "--dtype", "float32"
        )
        assert status == 0
        assert json.loads(lines[-1])["arms"]["itself"]["err"] == 0.0
        _, lines, _ = run(
            "--observations", files[0], "--port", address.partition(":")[2], "--host", "127.0.0.1"
        )
        assert list(json.loads(lines[-1])["arms"])[1].startswith("127.0.0.1-")


class Noisy:
    """The policy, deaf to seeds."""

    def __init__(self, policy: Gr00tPolicy) -> None:
        self._policy = policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def prepare(self, observations: dict[str, Any], **_: Any) -> Any:
        return self._policy.prepare(observations)


def test_a_server_that_knows_no_seed_is_refused(policy, files, run, tmp_path):
    with served(Noisy(policy)) as address:
        status, _, told = run("--observations", files[0], "--arms", f"other={address}")
    assert status == 1
    assert "error: other: the server answers one observation under one seed in two ways" in told
    assert list(tmp_path.iterdir()) == []


class Lefthanded(Noisy):
    """Answers with actions of another name."""

    def get_actions(self, requests: Any) -> list[dict[str, np.ndarray]]:
        return [
            {key.replace("gripper", "hand"): value for key, value in answer.items()}
            for answer in self._policy.get_actions(requests)
        ]

    def prepare(self, observations: dict[str, Any], **options: Any) -> Any:
        return self._policy.prepare(observations, **options)


def test_a_server_of_other_actions_is_named(policy, files, run, tmp_path):
    with served(Lefthanded(policy)) as address:
        status, _, told = run("--observations", files[0], "--arms", f"other={address}", "--dtype", "float32")
    assert status == 1
    assert "error: other: actions of other keys or widths: {'x': 1, " in told
    assert list(tmp_path.iterdir()) == []


def test_observations_of_another_configuration_are_named(files, run, tmp_path, policy):
    path = tmp_path / "other"
    write_observations(
        path, [{"state.arm": np.zeros((1, 7)), EPISODE: 0}, {"state.arm": np.zeros((1, 7)), EPISODE: 1}]
    )
    status, _, told = run("--observations", path, "--arms", "rtn")
    assert status == 1
    assert "error: observation 0: no 'video.image' in the observation, which has state.arm" in told
    assert not (tmp_path / "drift.png").exists()


def test_a_recipe_that_quantizes_nothing_is_an_error(files, run, tmp_path):
    arm = recipe(tmp_path / "arm.toml", WBITS_DEFAULT="4", INCLUDE="nothing_of_that_name", CALIB_STEPS="0")
    status, lines, told = run("--observations", files[0], "--arms", arm)
    assert status == 1
    assert "error: arm arm: DuQuant cannot use these settings on this model" in told
    assert lines == []


def test_what_cannot_be_is_found_before_anything_answers(files, run, tmp_path):
    arm = recipe(tmp_path / "arm.toml", WBITS_DEFAULT="16", ABITS="16", CALIB_STEPS="0")
    status, lines, told = run("--observations", files[0], "--arms", arm)
    assert (status, lines) == (1, [])
    assert "error: arm arm is to be quantized, and no layer is: all have 16 bits" in told
    assert "Total layers replaced" not in told
    status, lines, told = run("--observations", files[0], "--arms", "rtn", "--executed", "17")
    assert (status, lines) == (2, [])
    assert "error: --executed 17: expected 1 to 16, as many as the policy predicts" in told


def test_what_was_measured_is_said_though_it_cannot_be_drawn(files, run, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot, "draw", full)
    same = recipe(tmp_path / "same.toml", ENABLE="0")
    status, lines, told = run("--observations", files[0], "--arms", same, "--dtype", "float32")
    assert status == 1
    assert json.loads(lines[-1])["arms"]["same"]["err"] == 0.0
    assert "error: [Errno 28] No space left on device" in told


def test_a_server_that_differs_from_the_base_is_told(checkpoint, policy, files, run):
    info = {"denoising_steps": 4, "prompt_style": "brackets", "model_path": "other", "data_config": "mine"}
    info["identity"] = {"model": "0" * 64, "data_config": "1" * 64}
    with serving(policy, info=info) as (_, port):
        status, _, told = run("--observations", files[0], "--arms", f"it=localhost:{port}")
    assert status == 0
    for text in (
        f"another checkpoint: other, the base is {checkpoint}",
        "another data configuration: mine, the base's is ",
        "denoising_steps 4, the base's is 2",
    ):
        assert f"it: the server has {text}" in told
    assert "prompt_style" not in told


def test_the_demonstration_policy_is_quantized_by_a_recipe_of_this_project(run, tmp_path):
    folder = REPO / "examples" / "Libero" / "demo_policy"
    policy = load(folder, {}, DemoDataConfig)
    judging, calibrating = tmp_path / "judging", tmp_path / "calibrating"
    write_observations(judging, observations(policy, 4, 0))
    write_observations(calibrating, observations(policy, 4, 100))
    flags = ["--data-config", "examples.Libero.demo_data_config:DemoDataConfig", "--arms", "dit8"]
    status, lines, _ = run(*flags, "--observations", judging, "--calibration", calibrating, model=folder)
    found = json.loads(lines[-1])["arms"]
    assert status == (drift.REJECTED if found["dit8"]["verdict"] == "reject" else 0)
    assert found["dit8"]["quantized"]["bits"] == {"W4 A8": 28, "W8 A8": 12}
    assert found["dit8"]["quantized"]["rounding"] == {"feedback": 40}
    assert found["bfloat16"]["err"] < found["dit8"]["err"] < 0.2
