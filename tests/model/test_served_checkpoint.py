"""The real program on a small random checkpoint, quantized.

Oracle: the form of NVIDIA's recorded replies, and what a refusal must name.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zmq

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.serving.client import ExternalRobotInferenceClient, ServerError
from gr00t.serving.example_request import describe_locally, example_of
from gr00t.serving.wires import n1_5 as wire
from tests.serving.recorded import DOCUMENTED, ROOT, SCRIPT, recorded
from tests.shell import heed_signals


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Start the documented command, quantized; yield its port and its log."""
    log = tmp_path_factory.mktemp("service") / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = f"{DOCUMENTED} --device cpu --seed 3".replace("5555", str(port)).split()
    flags[1] = str(checkpoint)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GR00T_DUQUANT_")}
    environ |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environ |= {"GR00T_DUQUANT_WBITS_DEFAULT": "4", "GR00T_DUQUANT_CALIB_STEPS": "0"}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *flags],
            cwd=ROOT,
            env=environ,
            stderr=stderr,
            preexec_fn=heed_signals,
        ) as process,
    ):
        try:
            with ExternalRobotInferenceClient(port=port) as client:
                client.wait_until_ready(120)
            yield port, log
            # A storm of signals is one clean end, with the status of the first.
            for number in [signal.SIGHUP] + [signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * 10:
                process.send_signal(number)
                time.sleep(0.02)
            assert process.wait(20) == 128 + signal.SIGHUP
            assert "Traceback" not in log.read_text()
        finally:
            process.kill()


@pytest.fixture
def client(served: tuple[int, Path]) -> Iterator[ExternalRobotInferenceClient]:
    with ExternalRobotInferenceClient(port=served[0], timeout_ms=60_000) as client:
        yield client


@pytest.fixture
def observation() -> dict[str, Any]:
    return example_of(describe_locally(LiberoDataConfig(), None, "new_embodiment"))


def test_served_policy_is_quantized_and_says_so(
    served: tuple[int, Path], client: ExternalRobotInferenceClient
) -> None:
    report = client.get_quantization_report()
    assert (report["enabled"], report["layers_replaced"]) == (True, 22)
    log = served[1].read_text()
    assert "[GR00T-DUQUANT] Total layers replaced: 22" in log
    assert (
        ": 22 layers quantized (22 x W4 A8), bfloat16 elsewhere; prompt form brackets; 8 denoising steps"
        in log
    )


def test_recorded_requests_are_answered_by_the_real_policy(served: tuple[int, Path]) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as sock:
        sock.linger, sock.rcvtimeo = 0, 60_000
        sock.connect(f"tcp://127.0.0.1:{served[0]}")
        replies = {}
        for name in ("ping", "get_modality_config", "get_action_libero"):
            sock.send(recorded(f"req_{name}"))
            replies[name] = sock.recv()
    assert replies["ping"] == recorded("resp_ping")
    assert replies["get_modality_config"] == recorded("resp_get_modality_config")
    # The actions are this checkpoint's own; keys, order, dtypes and shapes are the recorded ones.
    actions, expected = wire.unpack(replies["get_action_libero"]), wire.unpack(recorded("resp_get_action"))
    assert [(key, value.dtype, value.shape) for key, value in actions.items()] == [
        (key, value.dtype, value.shape) for key, value in expected.items()
    ]
    assert len(replies["get_action_libero"]) == len(recorded("resp_get_action"))


def test_client_mode_prints_shapes_and_latency(
    program: ModuleType, served: tuple[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    program.run(program.ServeArguments(client=True, port=served[0]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        f"action.{key}: float32 (16, 1)" for key in ("x", "y", "z", "roll", "pitch", "yaw")
    ] + ["action.gripper: float32 (16, 1)"]
    assert lines[-1].endswith(f" ms from tcp://localhost:{served[0]}")


def test_seed_of_a_request_fixes_its_action(
    client: ExternalRobotInferenceClient, observation: dict[str, Any]
) -> None:
    first, again, other = (client.get_action(observation, seed=seed)["action.x"] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("state.x", None, "state.x"),
        ("state.x", np.array([[np.nan]]), "state.x"),
        ("state.gripper", np.zeros((1, 3)), "state.gripper"),
        ("state.x", "far", "state.x"),
        ("video.image", np.zeros((1, 100, 256, 3), np.uint8), "video.image"),
        ("video.image", np.zeros((1, 256, 256, 3), np.float32), "video.image"),
        ("annotation.human.action.task_description", [7], "annotation.human.action.task_description"),
    ],
)
def test_wrong_observation_is_answered_with_its_key_and_the_server_lives(
    client: ExternalRobotInferenceClient, observation: dict[str, Any], key: str, value: Any, named: str
) -> None:
    observation[key] = value
    if value is None:
        del observation[key]
    with pytest.raises(ServerError, match=named) as caught:
        client.get_action(observation)
    assert "Error: " not in caught.value.reply  # the policy's own words, not a stray exception's name
    assert client.ping()
