"""Servers in threads on ports that the system chooses, and bare sockets to meet them with."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import zmq

from gr00t.serving.client import ExternalRobotInferenceClient
from gr00t.serving.robot import RobotInferenceServer
from tests.serving.recorded import RecordedPolicy


@contextlib.contextmanager
def serving(policy: Any = None, **kwargs: Any) -> Iterator[tuple[RobotInferenceServer, int]]:
    """Run a server in a thread and yield it with its port."""
    server = RobotInferenceServer(policy or RecordedPolicy(), **{"port": 0, **kwargs})
    port = int(server.address.rsplit(":", 1)[1])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server, port
    finally:
        if server.running:
            with ExternalRobotInferenceClient(
                port=port, api_token=server.api_token, timeout_ms=5000
            ) as client:
                client.kill_server()
        thread.join(5)
        assert not thread.is_alive()


@contextlib.contextmanager
def raw(kind: int, port: int, heartbeat_ivl: int = 0) -> Iterator[zmq.Socket[bytes]]:
    """Connect a bare ZeroMQ socket, as somebody else's client would; with heartbeats, only once."""
    with zmq.Context() as context, context.socket(kind) as sock:
        sock.linger = 0
        sock.rcvtimeo = sock.sndtimeo = 5000
        if heartbeat_ivl:  # a heartbeat that is not answered is the end
            sock.heartbeat_ivl, sock.heartbeat_timeout, sock.reconnect_ivl = (
                heartbeat_ivl,
                4 * heartbeat_ivl,
                -1,
            )
        sock.connect(f"tcp://127.0.0.1:{port}")
        yield sock


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client_at(port: int, timeout_ms: int = 5000, **kwargs: Any) -> ExternalRobotInferenceClient:
    return ExternalRobotInferenceClient(port=port, timeout_ms=timeout_ms, **kwargs)
