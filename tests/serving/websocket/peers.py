"""Servers over WebSocket in threads, recorded sessions, and a client that sends what it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from websockets.sync.client import ClientConnection, connect

from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.websocket.server import WebSocketServer
from tests.serving.recorded import MODALITY_CONFIG, ROOT, STATE

FOLDER = ROOT / "tests" / "golden" / "wires"


@dataclass(frozen=True)
class Passed:
    """One recorded message. What a client wrote of its own disk was left out (episode_start's db_path)."""

    connection: int
    who: str
    is_text: bool
    data: bytes


def session(name: str) -> list[Passed]:
    """Return a recorded session: vla-eval 0.8.0 or openpi-client 0.1.2 and their own servers."""
    return [Passed(*entry) for entry in msgpack.unpackb((FOLDER / f"{name}.msgpack").read_bytes())]


class ScriptedPolicy:
    """Answers with the given chunks (H, 7) of LIBERO's actions, in turn; remembers what it was asked.

    `gate` holds its answers, of which `begun` tells.
    """

    def __init__(self, chunks: Sequence[np.ndarray] = ()) -> None:
        self.chunks = list(chunks)
        self.seen: list[dict[str, Any]] = []
        self.seeds: list[Any] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def get_action(self, observations: dict[str, Any], *, seeds: Any = None) -> dict[str, Any]:
        self.seen.append(observations)
        self.seeds.append(seeds)
        self.begun.release()
        assert self.gate.wait(20)
        number = len(self.seen) - 1
        actions = self.chunks[number] if number < len(self.chunks) else chunk(number)
        columns = {f"action.{key}": actions[:, index : index + 1].copy() for index, key in enumerate(STATE)}
        # LIBERO opens at -1 and closes at 1, policies open at 1 and close at 0.
        columns["action.gripper"] = (1 - columns["action.gripper"]) / 2
        return columns

    def get_modality_config(self) -> dict[str, Any]:
        return MODALITY_CONFIG

    def quantization_report(self) -> dict[str, Any]:
        return {"enabled": True, "layers_quantized": 116}


def chunk(number: int, length: int = 16) -> np.ndarray:
    """Return a chunk whose actions tell which they are."""
    actions = np.zeros((length, 7), np.float32)
    actions[:, 0] = number
    actions[:, 1] = np.arange(length) / 16
    actions[:, 6] = 1
    return actions


@contextlib.contextmanager
def running(*servers: RobotInferenceServer) -> Iterator[list[int]]:
    """Run servers in threads; yield their ports."""
    threads = [threading.Thread(target=server.run, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield [int(server.address.rsplit(":", 1)[1]) for server in servers]
    finally:
        for server in servers:
            server.running = False
            with contextlib.suppress(OSError):  # it has ended
                server.connections.wake()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


@contextlib.contextmanager
def serving(
    kind: type[WebSocketServer], policy: Any = None, **kwargs: Any
) -> Iterator[tuple[WebSocketServer, int]]:
    server = kind(policy or ScriptedPolicy(), **{"port": 0, **kwargs})
    with running(server) as ports:
        yield server, ports[0]


def client(port: int, path: str = "/", **options: Any) -> Any:
    """Connect, in a `with`, as both harnesses do: no compression, no limit."""
    plain = {"compression": None, "max_size": None, "sock": socket.create_connection(("127.0.0.1", port))}
    return connect(f"ws://127.0.0.1:{port}{path}", **{**plain, **options})


def message(kind: str, payload: Any, seq: int = 1, **more: Any) -> bytes:
    """Return a message of vla-eval's."""
    return msgpack.packb({"type": kind, "payload": payload, "seq": seq, "timestamp": 1.5, **more})


def asked(ws: ClientConnection, sent: bytes | str, timeout: float = 20) -> Any:
    """Send a message and return the decoded reply to it."""
    ws.send(sent)
    return msgpack.unpackb(ws.recv(timeout))


def array(told: dict[Any, Any]) -> np.ndarray:
    """Decode an array of either wire, independently of the library."""
    fields = {name.decode() if isinstance(name, bytes) else name: value for name, value in told.items()}
    return np.frombuffer(fields["data"], fields["dtype"]).reshape(fields["shape"])
