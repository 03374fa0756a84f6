"""The program that serves. Oracle: the documented command line, and what a new user must read when it fails.

It runs in this process, with a policy that answers from a recording; test_served_checkpoint.py does not.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.cli import running
from gr00t.cli.errors import UsageError
from gr00t.cli.serving import server
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.experiment.data_config import load_data_config
from gr00t.model.quantized_layers import SCOPES
from gr00t.quantization import DuQuantConfig, DuQuantConfigError
from gr00t.serving.client import ExternalRobotInferenceClient
from gr00t.serving.example_request import ExampleError, describe_locally, example_of
from gr00t.serving.sockets.address import BindError
from tests.serving.recorded import DOCUMENTED, ROOT, SCRIPT, RecordedPolicy, small_observation
from tests.serving.socket_helpers import serving


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("GR00T_DUQUANT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StubPolicy(RecordedPolicy):
    denoising_steps = 8
    device = "cpu"


def run_program(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


# The command line


OTHERS = "--host 0.0.0.0 --no-client --api-token secret --device cpu --seed 1 --dtype float32 --tokenizer T"


@pytest.mark.parametrize(
    "spell", [str, lambda flag: flag.replace("_", "-"), lambda flag: flag.replace("-", "_")]
)
def test_documented_flags_work_with_dashes_and_underscores(
    program: ModuleType, spell: Callable[[str], str]
) -> None:
    words = f"{DOCUMENTED} {OTHERS} --prompt-style plain".split()
    flags = [f"--{spell(word[2:])}" if word.startswith("--") else word for word in words]
    assert tyro.cli(ServeArguments, args=flags) == ServeArguments(
        server=True,
        model_path="PATH_OR_HUB_ID",
        data_config="examples.Libero.custom_data_config:LiberoDataConfig",
        embodiment_tag="new_embodiment",
        denoising_steps=8,
        port=5555,
        host="0.0.0.0",
        api_token="secret",
        device="cpu",
        seed=1,
        dtype="float32",
        tokenizer="T",
        prompt_style="plain",
    )


def test_later_flag_wins_since_shell_scripts_append_the_users(program: ModuleType) -> None:
    assert tyro.cli(ServeArguments, args=["--port", "5555", "--port", "5556"]).port == 5556


def test_wrong_flag_is_answered_with_the_nearest_and_status_2() -> None:
    run = run_program("--sever", "--model_path", "x")
    assert run.returncode == 2
    assert "Unrecognized options: --sever" in run.stderr
    assert "--server" in run.stderr


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({}, "give one of --server and --client"),
        ({"server": True, "client": True}, "give one of --server and --client"),
        ({"server": True}, "--server needs --model-path: a checkpoint folder or model hub id"),
        (
            {"server": True, "model_path": "x", "api_token": ""},
            "--api-token is empty: it would protect nothing",
        ),
        (
            {"server": True, "model_path": "x", "scope": "wied"},
            "--scope wied: did you mean wide? (a prefix of layers' names is GR00T_DUQUANT_SCOPE)",
        ),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(
    program: ModuleType, flags: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError) as caught:
        program.run(ServeArguments(**flags))
    assert str(caught.value) == text


# Serving: checks first, the port last


def test_port_opens_when_the_policy_is_complete_and_closes_at_kill(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, port: int
) -> None:
    def load(arguments: Any, model_path: str) -> StubPolicy:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        return StubPolicy()

    monkeypatch.setattr(server, "load_policy", load)
    caplog.set_level(logging.INFO, logger="gr00t")
    thread = threading.Thread(
        target=program.run, args=[ServeArguments(server=True, model_path="MODEL", port=port)]
    )
    thread.start()
    with ExternalRobotInferenceClient(port=port, timeout_ms=5000) as client:
        client.wait_until_ready(10)
        assert client.get_action(small_observation())["action.x"].shape == (16, 1)
        client.kill_server()
    thread.join(5)
    assert not thread.is_alive()
    assert (
        "Serving MODEL: NOT quantized, bfloat16 throughout; prompt form brackets; 8 denoising steps; "
        f"device cpu; tcp://127.0.0.1:{port}"
    ) in caplog.messages
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_line_names_how_many_layers_are_quantized_and_how(program: ModuleType) -> None:
    class Quantized(StubPolicy):
        def quantization_report(self) -> dict[str, Any]:
            layers = {"a": {"bits": "W4 A8"}, "b": {"bits": "W4 A8"}, "c": {"bits": "W8 A8"}}
            return {"enabled": True, "layers_quantized": 3, "layers": layers}

    assert server.describe(ServeArguments(model_path="M"), Quantized()) == (
        "M: 3 layers quantized (2 x W4 A8, 1 x W8 A8), bfloat16 elsewhere; prompt form brackets; "
        "8 denoising steps; device cpu"
    )


def must_not_load(arguments: Any, model_path: str) -> Any:
    pytest.fail("the weights must not be touched")


def test_port_in_use_is_found_before_the_weights_are_loaded(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "load_policy", must_not_load)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            BindError, match=rf"cannot listen on tcp://127\.0\.0\.1:{port}: Address already in use"
        ):
            program.run(ServeArguments(server=True, model_path="x", port=port))


def test_wrong_variable_is_found_before_the_weights_are_loaded(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "load_policy", must_not_load)
    monkeypatch.setenv("GR00T_DUQUANT_ABIT", "8")
    with pytest.raises(DuQuantConfigError, match="did you mean GR00T_DUQUANT_ABITS"):
        program.run(ServeArguments(server=True, model_path="x"))


@pytest.mark.parametrize(("scope", "layers"), [("document", 22), ("wide", 22 + 12 + 1 + 12 + 16)])
def test_dry_run_lists_and_ends_with_status_0_without_serving(
    program: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    checkpoint: Path,
    port: int,
    scope: str,
    layers: int,
) -> None:
    monkeypatch.setattr(server, "load_policy", must_not_load)
    monkeypatch.setenv("GR00T_DUQUANT_DRYRUN", "1")
    caplog.set_level(logging.INFO, logger="gr00t")
    program.run(ServeArguments(server=True, model_path=str(checkpoint), port=port, scope=scope))
    # 2 language-model layers of 7 and 4 DiT layers of 2, as test_random_checkpoint's small model has them; 2
    # vision layers of 6, a connector, 2 adapter layers of 6 and the attention of the DiT layers, 4 each.
    assert f"[GR00T-DUQUANT] Dry-run total layers listed: {layers}" in caplog.messages


def test_a_policy_is_loaded_by_the_variables_of_the_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(server, "load_by_flags", lambda flags, path, environ, **_: loaded.append(environ))
    for scope in ("document", "wide"):
        server.load_policy(ServeArguments(server=True, model_path="x", scope=scope), "x")
    documented, wide = (DuQuantConfig.from_environ(environ) for environ in loaded)
    assert documented is None
    assert wide is not None
    assert wide.to_dict()["GR00T_DUQUANT_WBITS"] == SCOPES["wide"]["WBITS"]


def test_dry_run_never_serves_not_even_with_quantization_off(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "load_policy", must_not_load)
    monkeypatch.setenv("GR00T_DUQUANT_DRYRUN", "1")
    monkeypatch.setenv("GR00T_DUQUANT_ENABLE", "0")
    caplog.set_level(logging.INFO, logger="gr00t")
    program.run(ServeArguments(server=True, model_path="x"))
    assert caplog.messages == ["[GR00T-DUQUANT] DuQuant not enabled: GR00T_DUQUANT_ENABLE=0; nothing to list"]


# Failures: a message for what our own code says, a traceback for surprises


class NoSignals:
    """In place of the receiver of signals, which would have those of the whole test run."""

    def close(self) -> None:
        """There is nothing to do."""


@pytest.fixture
def start(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `main` with flags, without its grip on this process's log and signals."""

    def start(*flags: str) -> int:
        monkeypatch.setattr(sys, "argv", ["inference_service.py", *flags])
        monkeypatch.setattr(running, "log_to_stderr", lambda: None)
        monkeypatch.setattr(running, "Ending", NoSignals)
        return program.main()

    return start


def test_failure_ends_the_program_with_one_line_and_status_1(
    start: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nothing" / "there"
    assert start("--server", "--model-path", str(missing), "--port", "0") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(missing) in line


def test_usage_error_has_status_2(start: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert start("--server") == 2
    assert capsys.readouterr().err == (
        "error: --server needs --model-path: a checkpoint folder or model hub id\n"
    )


def test_surprise_keeps_its_traceback(start: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(arguments: Any, model_path: str) -> Any:
        raise RuntimeError("surprise")

    monkeypatch.setattr(server, "load_policy", load)
    with pytest.raises(RuntimeError, match="surprise"):
        start("--server", "--model-path", "x", "--port", "0")


# The client


def test_the_client_builds_its_observation_from_what_the_server_says(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever data configuration its own flags name; a server of NVIDIA's is asked by those."""
    described = {"video": {"video.webcam": [1, 48, 64, 3]}, "state": {"state.arm": [[0.0, 1.0]]}}
    policy = RecordedPolicy()
    with serving(policy, info={"observation": {**described, "instruction": "annotation.do"}}) as (_, port):
        program.run(ServeArguments(client=True, port=port))
    assert capsys.readouterr().out.startswith("action.x: float32 (16, 1)\n")
    ((seen, _),) = policy.seen
    assert {key: getattr(value, "shape", value) for key, value in seen.items()} == {
        "video.webcam": (1, 48, 64, 3),
        "state.arm": (1, 2),
        "annotation.do": ["pick up the object and place it in the basket"],
    }
    with serving(policy) as (server, port):
        del server._endpoints["get_server_info"]
        program.run(ServeArguments(client=True, port=port))
    assert list(policy.seen[-1][0])[:3] == ["video.image", "video.wrist_image", "state.x"]


def test_example_observation_has_every_key_in_its_width(checkpoint: Path) -> None:
    for model_path in (None, str(checkpoint)):
        observation = example_of(describe_locally(LiberoDataConfig(), model_path, "new_embodiment"))
        assert {key: getattr(value, "shape", value) for key, value in observation.items()} == {
            "video.image": (1, 256, 256, 3),
            "video.wrist_image": (1, 256, 256, 3),
            **{f"state.{key}": (1, 1) for key in ("x", "y", "z", "roll", "pitch", "yaw")},
            "state.gripper": (1, 2),
            "annotation.human.action.task_description": ["pick up the object and place it in the basket"],
        }


def test_example_of_a_robot_whose_widths_nobody_tells_is_refused() -> None:
    with pytest.raises(ExampleError, match=r"nothing tells how wide state\.\w+ is; name a checkpoint folder"):
        describe_locally(load_data_config("so100"), None, "new_embodiment")
