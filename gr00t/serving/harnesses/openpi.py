"""openpi's wire: the server introduces itself, then every map that comes is answered by one with a chunk.

There is no type, no number, no episode: the client keeps the chunk. A message that cannot be answered ends
the connection after a text that says why, which openpi's client raises. As an extension, a whole number under
the key `seed` fixes the flow noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from gr00t.serving.harnesses.messages import HarnessObservation, fields_in, read_field
from gr00t.serving.harnesses.robots import Robot, robot_of
from gr00t.serving.robot import ServedPolicy
from gr00t.serving.websocket.server import WebSocketServer
from gr00t.serving.websocket.session import Ask, Reply, Session, WebSocketMessage
from gr00t.serving.wires import n1_5
from gr00t.serving.wires.array_maps import encode_openpi, read_openpi

_SEED = "seed"
_MODEL = "gr00t-n1.5"


class OpenPiSession:
    """openpi's side of one connection; see `gr00t.serving.websocket.session.Session`."""

    def __init__(self, robot: Robot, metadata: Callable[[], dict[str, Any]]) -> None:
        """Begin; `metadata` returns what the client is told first."""
        self._robot = robot
        self._metadata = metadata
        self._asked_at = 0.0
        self._last_ms: float | None = None

    @property
    def greeting(self) -> bytes | None:
        """What the client is told first."""
        return n1_5.pack(self._metadata(), encode_openpi)

    def take(self, message: WebSocketMessage) -> Generator[None, None, Ask | Reply | None]:
        """Take an observation.

        Raises:
            RequestError: A text, or no map.
            WireError: It cannot be decoded.
        """
        fields = yield from fields_in(message)
        payload = message.parts[0]
        seed = fields.get(_SEED)
        options = {} if seed is None else {_SEED: read_field(payload, _SEED, seed, read_openpi)}
        self._asked_at = time.monotonic()
        return Ask(HarnessObservation(memoryview(payload), read_openpi, self._robot.from_openpi), options)

    def answer(self, result: dict[str, Any]) -> Reply:
        """Return the message with the chunk."""
        actions = self._robot.actions(result)
        milliseconds = 1000 * (time.monotonic() - self._asked_at)
        timing = {"infer_ms": milliseconds}
        if self._last_ms is not None:
            timing["prev_total_ms"] = self._last_ms
        packed = n1_5.pack({"actions": actions, "server_timing": timing}, encode_openpi)
        self._last_ms = 1000 * (time.monotonic() - self._asked_at)
        return [b"binary", packed]

    def tell(self, error: str) -> Reply:
        """Return the text that says what is wrong, and the end."""
        return [b"text", error.encode("utf-8", "replace"), b"1011", b"the text before says what is wrong"]


class OpenPiServer(WebSocketServer):
    """Serves a policy to openpi's clients; for the arguments see `WebSocketServer`."""

    def __init__(self, model: ServedPolicy, *args: Any, **kwargs: Any) -> None:
        self._robot = robot_of(model.get_modality_config())
        super().__init__(model, *args, **kwargs)

    def new_session(self) -> Session:
        """Begin to talk with a new client."""
        return OpenPiSession(self._robot, self._metadata)

    def _metadata(self) -> dict[str, Any]:
        return {"policy": _MODEL, **self.facts()}
