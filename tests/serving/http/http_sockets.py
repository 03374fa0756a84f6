"""Servers over HTTP in threads, and the bytes of a request as N1.5's client sends it."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gr00t.serving.http.server import HTTPInferenceServer
from tests.serving.recorded import RecordedPolicy


@contextlib.contextmanager
def serving_http(policy: Any = None, **kwargs: Any) -> Iterator[tuple[HTTPInferenceServer, int]]:
    """Run a server in a thread and yield it with its port."""
    server = HTTPInferenceServer(policy or RecordedPolicy(), **{"port": 0, **kwargs})
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server, int(server.address.rsplit(":", 1)[1])
    finally:
        server.running = False
        with contextlib.suppress(OSError):  # it has ended
            server.connections.wake()
        thread.join(5)
        assert not thread.is_alive()


def as_json_numpy(value: Any) -> Any:
    """An observation as json-numpy 2.1 writes it, with arrays as maps of three fields in this order."""
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value)).decode("ascii")
        return {"__numpy__": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {key: as_json_numpy(inner) for key, inner in value.items()}
    return value


def request_bytes(
    port: int, content: Any, path: str = "/act", method: str = "POST", host: str = "0.0.0.0", **headers: str
) -> bytes:
    """A request as `requests.post("http://0.0.0.0:8000/act", json=content)` sends it."""
    body = content if isinstance(content, bytes) else json.dumps(content, allow_nan=False).encode()
    lines = {
        "Host": f"{host}:{port}",
        "User-Agent": "python-requests/2.32.3",
        "Accept-Encoding": "gzip, deflate",
        "Accept": "*/*",
        "Connection": "keep-alive",
        "Content-Length": str(len(body)),
        "Content-Type": "application/json",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items() if text)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: Any


def read_reply(tcp: socket.socket) -> Reply:
    """Read one reply; b"" where the other side hung up instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = tcp.recv(65_536)
        if not more:
            raise ConnectionResetError
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        more = tcp.recv(65_536)
        assert more, "cut off"
        body += more
    content = json.loads(body) if headers["content-type"] == "application/json" else body.decode()
    return Reply(int(status.split(" ")[1]), headers, content)


def ask(port: int, content: Any = b"", **options: Any) -> Reply:
    """Send one request over a connection of its own; return the reply."""
    with socket.create_connection(("127.0.0.1", port), 10) as tcp:
        tcp.sendall(request_bytes(port, content, **options))
        return read_reply(tcp)


def number(value: float) -> dict[str, Any]:
    return {"observation": as_json_numpy({"state.x": np.array([[value]])})}


def doubled(reply: Reply) -> float:
    assert reply.status == 200, reply
    field = reply.content["action.x"]
    assert list(field) == ["__numpy__", "dtype", "shape"]
    return float(
        np.frombuffer(base64.b64decode(field["__numpy__"]), field["dtype"]).reshape(field["shape"])[0, 0]
    )


ACT = number(1)
