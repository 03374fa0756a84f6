"""The program with --http-server. Oracle: what it prints and logs, and its exit status."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from gr00t.cli.errors import UsageError
from gr00t.cli.serving import server
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.serving.client import ServerError
from gr00t.serving.http.client import HTTPInferenceClient
from gr00t.serving.http.server import HTTPInferenceServer
from tests.cli.test_serve import StubPolicy, run_program
from tests.serving.recorded import ROOT, SCRIPT
from tests.serving.socket_helpers import free_port, serving

run = HTTPInferenceServer.run


@pytest.fixture
def port() -> int:
    return free_port()


def test_http_is_served_and_asked_by_the_same_program(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    servers: list[HTTPInferenceServer] = []
    monkeypatch.setattr(server, "load_policy", lambda arguments, model_path: StubPolicy())
    monkeypatch.setattr(HTTPInferenceServer, "run", lambda server: (servers.append(server), run(server)))
    arguments = ServeArguments(server=True, http_server=True, model_path="MODEL", port=port)
    thread = threading.Thread(target=program.run, args=[arguments])
    thread.start()
    client = HTTPInferenceClient(port=port)
    until = time.monotonic() + 10
    while not client.is_healthy() and time.monotonic() < until:
        time.sleep(0.05)
    program.run(ServeArguments(client=True, http_server=True, port=port))
    assert capsys.readouterr().out.endswith(f" ms from http://localhost:{port}\n")
    servers[0].running = False
    thread.join(5)
    assert not thread.is_alive()


def test_the_zeromq_port_asked_over_http_says_what_to_do(program: ModuleType) -> None:
    with (
        serving() as (_, port),
        pytest.raises(ServerError, match="this is the ZeroMQ server; for HTTP start it with --http-server"),
    ):
        program.run(ServeArguments(client=True, http_server=True, port=port))


@pytest.mark.slow
def test_http_is_served_with_the_same_flags_and_ends_by_a_signal(checkpoint: Path, port: int) -> None:
    flags = ["--model-path", str(checkpoint), "--device", "cpu", "--port", str(port), "--api-token", "secret"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "GR00T_DUQUANT_CALIB_STEPS": "0"}
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--server", "--http-server", *flags],
        cwd=ROOT,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            client = HTTPInferenceClient(port=port, api_token="secret")
            until = time.monotonic() + 60
            while not client.is_healthy() and time.monotonic() < until:
                time.sleep(0.1)
            assert client.get_quantization_report()["layers_quantized"] == 22
            asked = run_program("--client", "--http-server", "--port", str(port), "--api-token", "secret")
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in log
    assert f"Server is ready and listening on http://127.0.0.1:{port}" in log
    assert "--host 0.0.0.0 for robots elsewhere" in log
    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.splitlines()
    assert lines[0] == "action.x: float32 (16, 1)"
    assert lines[-1].endswith(f" ms from http://localhost:{port}")


def test_without_h11_it_says_how_to_install_it_before_anything_is_loaded(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "h11" else found(name, *rest)
    )
    with pytest.raises(UsageError) as caught:
        program.run(ServeArguments(server=True, http_server=True, model_path="nowhere", port=0))
    assert str(caught.value).startswith(
        "--http-server needs the package h11, which is not installed here; install it with "
        "scripts/setup_env.sh core http, or "
    )
