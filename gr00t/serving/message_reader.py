"""From the bytes of a message to a checked request, without decoding what is not yet known to be welcome."""

from __future__ import annotations

import hmac
from collections.abc import Generator, Mapping
from typing import Any

from gr00t.serving.endpoints import Encoded, EndpointHandler, Request, RequestError
from gr00t.serving.wires import n1_5 as wire
from gr00t.serving.wires.foreign import name_message
from gr00t.serving.wires.outline import Outline, Span, WireError, kind_of, text_bytes, walk
from gr00t.spelling import did_you_mean

_MAX_OPTIONS_BYTES = 10_000


class MessageReader:
    """Knows the endpoints, the token and the bound that messages are checked against."""

    def __init__(
        self, endpoints: Mapping[str, EndpointHandler], api_token: str | None, max_message_bytes: int
    ) -> None:
        """Take what is checked against; `endpoints` may grow later.

        Raises:
            RequestError: An empty token, which would look like protection and be none, or one that no client
                can send.
        """
        if api_token == "":
            raise RequestError("api_token: is empty; give a token, or None for a server without one")
        try:
            self._token = None if api_token is None else api_token.encode()
        except UnicodeEncodeError:
            raise RequestError("api_token: is not UTF-8, which is how a client sends it") from None
        self._endpoints = endpoints
        self._max_bytes = max_message_bytes

    def is_token(self, sent: bytes | None) -> bool:
        """Return whether a sender may ask: it sent the token, or there is none."""
        if self._token is None:
            return True
        return sent is not None and hmac.compare_digest(sent, self._token)

    def look_at(self, payload: bytes, length: int, from_loopback: bool) -> Generator[None, None, Request]:
        """Check a message up to what its endpoint expects of `data`, which is left encoded; pause at times.

        Args:
            payload: The message's bytes, as far as they were kept.
            length: How many there are.
            from_loopback: Whether it came from this machine, which may `kill` without a token.

        Raises:
            RequestError: Too long, not a map, a wrong token or type, an unknown endpoint or option.
            WireError: Not decodable.
        """
        if length > self._max_bytes:
            raise self.too_long(length)
        try:
            found = yield from walk(payload)
        except WireError:
            foreign = name_message(payload)
            if foreign is None:
                raise
            raise RequestError(foreign) from None
        if found.kind != "dict":
            raise RequestError(f"request: expected a map with endpoint and data, got {found.kind}")
        at = found.fields.get("api_token")
        if not self.is_token(None if at is None else text_bytes(payload, at)):
            raise RequestError("Unauthorized: Invalid API token")
        endpoint = self._endpoint_of(payload, found)
        if endpoint == "kill" and self._token is None and not from_loopback:
            raise RequestError(
                "kill: refused to another machine; start the server with an API token and send it"
            )
        return (yield from self._request_of(payload, found, endpoint))

    def _request_of(self, payload: bytes, found: Outline, endpoint: str) -> Generator[None, None, Request]:
        """Return the request that a message makes of a known endpoint; pause at times."""
        yield from ()
        options = self.options_at(payload, found.fields.get("options"), endpoint)
        data: Any = {}
        if (at := found.fields.get("data")) is not None:
            data = Encoded(memoryview(payload)[at.begin : at.end])
        return Request(endpoint, data, options)

    def too_long(self, length: int) -> RequestError:
        """Return the error of a message that is too long."""
        return RequestError(
            f"message of {length} bytes; at most {self._max_bytes} are accepted: send fewer samples, or "
            "smaller frames, in each request"
        )

    def _endpoint_of(self, payload: bytes, found: Outline) -> str:
        at = found.fields.get("endpoint")
        if at is None:
            return "get_action"
        name = text_bytes(payload, at)
        if name is None:
            raise RequestError(f"endpoint: expected text, got {kind_of(payload[at.begin])}")
        endpoint = name.decode("utf-8", "replace")
        if endpoint not in self._endpoints:
            raise RequestError(f"Unknown endpoint: {endpoint:.200}")
        return endpoint

    def options_at(self, payload: bytes, at: Span | None, endpoint: str) -> dict[str, Any]:
        """Return the options that lie at `at`, all of which the endpoint knows.

        Raises:
            RequestError: They are no map, too many, or one of them is unknown.
        """
        if at is None:
            return {}
        if (kind := kind_of(payload[at.begin])) != "dict":
            raise RequestError(f"options: expected a map, got {kind}")
        if (size := at.end - at.begin) > _MAX_OPTIONS_BYTES:
            raise RequestError(f"options: {size} bytes; at most {_MAX_OPTIONS_BYTES} are accepted")
        options: Any = wire.decode(payload[at.begin : at.end])
        if not isinstance(options, dict):
            raise RequestError(f"options: expected a map, got {type(options).__name__}")
        self.check_options(endpoint, options)
        return options

    def check_options(self, endpoint: str, options: Mapping[Any, Any]) -> None:
        """Raise a RequestError if an endpoint does not know an option."""
        accepted = self._endpoints[endpoint].options
        for name in options:
            if not isinstance(name, str) or name not in accepted:
                known = did_you_mean(str(name)[:100], accepted) if accepted else f"{endpoint} takes none"
                raise RequestError(f"options: unknown option {name!r:.100}; {known}")
