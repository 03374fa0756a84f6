"""The server for clients of Isaac-GR00T N1.6 and N1.7: N1.5's ZeroMQ server, asked in their words.

An N1.5 policy answers; see wires.n1_6 for what differs between the wires.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from gr00t.serving.endpoints import Encoded, Failure, Request, RequestError, attempt
from gr00t.serving.message_reader import MessageReader
from gr00t.serving.robot import RobotInferenceServer
from gr00t.serving.wires import n1_6 as wire
from gr00t.serving.wires.outline import Outline, Span, kind_of, walk


@dataclass(frozen=True)
class _EncodedObservation(Encoded):
    """An observation as it came, and how its sender wants to be answered.

    Attributes:
        nested: its keys stand in maps of their modalities.
        msgpack_numpy: its arrays are written so.
    """

    nested: bool
    msgpack_numpy: bool

    def decode(self) -> Any:
        """Return it as N1.5's clients would have sent it.

        Raises:
            WireError: it is no observation.
        """
        return wire.read_observation(self.part)


class N16MessageReader(MessageReader):
    """Knows that the options stand beside the observation, within `data`."""

    def _request_of(self, payload: bytes, found: Outline, endpoint: str) -> Generator[None, None, Request]:
        at = found.fields.get("data")
        if at is None or kind_of(payload[at.begin]) == "NoneType":
            if endpoint == "get_action":
                raise RequestError("data: expected a map with observation and options, got nothing")
            return Request(endpoint, {}, {})
        data = payload[at.begin : at.end]
        inner = yield from walk(data)
        if inner.kind != "dict":
            raise RequestError(f"data: expected a map, got {inner.kind}")
        options = inner.fields.get("options")
        if options is not None and kind_of(data[options.begin]) == "NoneType":
            options = None
        if endpoint != "get_action":
            return Request(endpoint, {}, {})
        observation = inner.fields.get("observation")
        if observation is None:
            got = ", ".join(repr(key[:60]) for key in list(inner.fields)[:10]) or "nothing"
            raise RequestError(
                f"data: no 'observation', but {got}; this server speaks Isaac-GR00T N1.6's wire; N1.5's "
                "clients ask one that is started with --wire n1_5"
            )
        told = self.options_at(data, options, endpoint)
        return Request(endpoint, (yield from _encoded(data, observation)), told)


def _encoded(data: bytes, at: Span) -> Generator[None, None, _EncodedObservation]:
    part = data[at.begin : at.end]
    found = yield from walk(part)
    nested = any(
        name in found.fields and kind_of(part[found.fields[name].begin]) == "dict" for name in wire.MODALITIES
    )
    return _EncodedObservation(memoryview(part), nested, wire.speaks_msgpack_numpy(part))


class N16InferenceServer(RobotInferenceServer):
    """Serves a policy to clients of N1.6 and N1.7; for the arguments see `RobotInferenceServer`."""

    reader_class = N16MessageReader

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_endpoint("reset", dict, requires_input=False, immediate=True)

    def _reply(self, name: str, outcome: Any, request: Request | None = None) -> list[bytes]:
        asked = request.data if request is not None else None
        if isinstance(outcome, Failure) or not isinstance(asked, _EncodedObservation):
            reply = outcome if isinstance(outcome, Failure) else attempt(lambda: wire.pack(outcome, False))
        else:
            answer = wire.write_actions(outcome, asked.nested)
            reply = attempt(lambda: wire.pack(answer, asked.msgpack_numpy))
        return super()._reply(name, reply) if isinstance(reply, Failure) else [reply]
