"""`--wire`: which servers run where. Oracle: a client of each wire, and what the program says."""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from typing import Any

import msgpack
import pytest
import tyro

from gr00t.cli import serve
from gr00t.cli.errors import UsageError
from gr00t.cli.serving import server
from gr00t.cli.serving.arguments import ServeArguments
from gr00t.cli.serving.wires import WirePort, chosen_wires
from gr00t.serving.client import ExternalRobotInferenceClient
from tests.cli.test_serve import StubPolicy
from tests.serving.recorded import small_observation
from tests.serving.socket_helpers import free_port
from tests.serving.websocket.peers import asked, client, message


@pytest.mark.parametrize(
    ("texts", "port", "http", "found"),
    [
        ([], None, False, ["n1_5:5555"]),
        (["n1_5"], 7000, False, ["n1_5:7000"]),
        (["n1_5"], None, True, ["http:5555"]),
        (["n1_6"], None, False, ["n1_6:5555"]),
        (["vla-eval"], None, False, ["vla-eval:8000"]),
        (["vla-eval"], 7000, False, ["vla-eval:7000"]),
        (["n1_5", "openpi"], 7000, False, ["n1_5:7000", "openpi:8000"]),
        (["n1_6,vla-eval:8001", "openpi"], 7000, False, ["n1_6:7000", "vla-eval:8001", "openpi:8000"]),
        (["vla-eval:8001", "openpi", "n1_6:0", "http:0"], None, False,
         ["vla-eval:8001", "openpi:8000", "n1_6:0", "http:0"]),
    ],
)  # fmt: skip
def test_wires_and_their_ports(texts: list[str], port: int | None, http: bool, found: list[str]) -> None:
    wanted = [WirePort(name, int(number)) for name, number in (text.split(":") for text in found)]
    assert chosen_wires(texts, port, http) == wanted


@pytest.mark.parametrize(
    ("texts", "http", "error"),
    [
        (["n1.5"], False, "--wire n1.5: did you mean n1_5?"),
        (["openpi:"], False, "--wire openpi:: expected NAME or NAME:PORT"),
        (["openpi:70000"], False, "--wire openpi:70000: expected NAME or NAME:PORT"),
        (["vla-eval", "openpi"], False, "--wire: vla-eval and openpi at port 8000; give each its own, as"),
        (["n1_5", "n1_6"], False, "--wire: n1_5 and n1_6 at port 5555; give each its own, as n1_6:PORT"),
        (["openpi"], True, "--http-server speaks N1.5's HTTP; with --wire name it http"),
    ],
)  # fmt: skip
def test_wires_that_cannot_be(texts: list[str], http: bool, error: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_wires(texts, None, http)
    assert str(caught.value).startswith(error)


def test_the_flags() -> None:
    flags = ["--server", "--wire", "n1_5", "vla-eval:8001", "--replan-steps", "4", "--port", "1"]
    told = tyro.cli(ServeArguments, args=flags)
    assert (told.wire, told.replan_steps, told.port) == (("n1_5", "vla-eval:8001"), 4, 1)
    with pytest.raises(UsageError, match="--replan-steps: expected at least 1, got 0"):
        serve.run(ServeArguments(server=True, replan_steps=0))
    with pytest.raises(UsageError, match="--client speaks one of n1_5, http"):
        serve.run(ServeArguments(client=True, wire=("openpi",)))


def test_one_model_is_served_over_every_wire_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ports = {name: free_port() for name in ("n1_5", "http", "n1_6", "vla-eval", "openpi")}
    monkeypatch.setattr(server, "load_policy", lambda arguments, model_path: StubPolicy())
    caplog.set_level(logging.INFO, logger="gr00t")
    wires = tuple(f"{name}:{port}" for name, port in ports.items())
    arguments = ServeArguments(server=True, model_path="MODEL", wire=wires)
    thread = threading.Thread(target=serve.run, args=[arguments])
    thread.start()
    with ExternalRobotInferenceClient(port=ports["n1_5"], timeout_ms=5000) as old:
        old.wait_until_ready(20)
        assert old.get_action(small_observation())["action.x"].shape == (16, 1)
        _until(lambda: sum("Server is ready" in line for line in caplog.messages) == 5)
        with client(ports["vla-eval"]) as ws:
            hello = asked(ws, message("hello", {}))["payload"]
        assert hello["server"]["model_path"] == "MODEL"
        with client(ports["openpi"]) as ws:
            assert msgpack.unpackb(ws.recv(5))["server"]["model_path"] == "MODEL"
        old.kill_server()
    thread.join(10)
    assert not thread.is_alive()
    for scheme, name in (
        ("tcp", "n1_5"),
        ("http", "http"),
        ("tcp", "n1_6"),
        ("ws", "vla-eval"),
        ("ws", "openpi"),
    ):
        assert f"Server is ready and listening on {scheme}://127.0.0.1:{ports[name]}" in caplog.messages


@pytest.mark.parametrize(
    ("wire", "missing", "error"),
    [
        ("openpi", "websockets", "--wire openpi needs the package websockets"),
        ("vla-eval", "PIL", "--wire vla-eval needs the package PIL"),
    ],
)
def test_what_is_not_installed_is_said_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, wire: str, missing: str, error: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == missing else found(name, *rest)
    )
    with pytest.raises(UsageError) as caught:
        serve.run(ServeArguments(server=True, model_path="nowhere", wire=(f"{wire}:0",)))
    assert str(caught.value).startswith(
        f"{error}, which is not installed here; install it with scripts/setup"
    )


def _until(holds: Any) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)
