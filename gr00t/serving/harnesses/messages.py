"""What the messages of all harnesses have in common: each is one msgpack map, hostile until it is read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from gr00t.serving.endpoints import Encoded, RequestError
from gr00t.serving.websocket.session import WebSocketMessage
from gr00t.serving.wires import n1_5
from gr00t.serving.wires.outline import Span, walk

_MAX_FIELD_BYTES = 65_536

# What a map of the wire's stands for, given its entries.
MapReader = Callable[[list[tuple[Any, Any]]], Any]


@dataclass(frozen=True)
class HarnessObservation(Encoded):
    """An observation as it came.

    Attributes:
        read_map: how the wire writes arrays.
        translate: returns it in the policy's words.
    """

    read_map: MapReader
    translate: Callable[[Mapping[str, Any]], dict[str, Any]]

    def decode(self) -> Any:
        """Return it in the policy's words.

        Raises:
            WireError: it cannot be decoded.
            RequestError: something is missing or has the wrong shape.
        """
        told: Any = n1_5.decode(self.part, self.read_map)
        if not isinstance(told, dict):
            raise RequestError(f"observation: expected a map, got {type(told).__name__}")
        return self.translate(told)


def fields_in(message: WebSocketMessage) -> Generator[None, None, dict[str, Span]]:
    """Return where the fields of a message lie; pause now and then.

    Raises:
        RequestError: a text, or no map.
        WireError: it cannot be decoded.
    """
    if message.is_text:
        raise RequestError("expected a msgpack map in a binary message, got a text")
    found = yield from walk(message.parts[0])
    if found.kind != "dict":
        raise RequestError(f"expected a map, got {found.kind}")
    return found.fields


def read_field(payload: bytes, name: str, at: Span, read_map: MapReader) -> Any:
    """Decode a field at once, in the loop that answers all: none but an observation is long.

    Raises:
        RequestError: it is long.
        WireError: it cannot be decoded.
    """
    if (size := at.end - at.begin) > _MAX_FIELD_BYTES:
        raise RequestError(f"{name}: {size} bytes; at most {_MAX_FIELD_BYTES} are accepted")
    return n1_5.decode(payload[at.begin : at.end], read_map)
