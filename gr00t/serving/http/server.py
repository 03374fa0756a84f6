"""The server of a policy over HTTP, as Isaac-GR00T N1.5 has it: `POST /act`, `GET /health`, JSON with arrays.

It is the other server in everything but the language: the same loop, the same worker, the same
bounds. An observation is `{"observation": {...}}` with arrays as json-numpy writes them, or all of this once
more as text in `{"encoded": "..."}`; an action comes back in the same way, an error as `{"detail": "..."}`.

Web pages may not ask. A browser lets any page send requests to this machine, so a request that a page makes
is known by its headers and refused; a page that points a name of its own at this machine, by that name.
"""

from __future__ import annotations

import ipaddress
import logging
import socket as sockets
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gr00t.serving.batching import MAX_WAITING, stopping
from gr00t.serving.endpoints import Encoded, Failure, Request, RequestError, UnavailableError, attempt
from gr00t.serving.http.conversation import Head, HttpConversation, HttpMessage, Refusal
from gr00t.serving.limits import DEFAULT_MAX_BATCH
from gr00t.serving.robot import RobotInferenceServer, ServedPolicy
from gr00t.serving.sockets.address import strip_brackets
from gr00t.serving.sockets.connection import Connection, Conversation
from gr00t.serving.sockets.zmtp import Message
from gr00t.serving.tokens import token_of
from gr00t.serving.wires import json_arrays
from gr00t.serving.wires.outline import MAX_MESSAGE_BYTES
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

_HEALTH = "/health"
_ACT = "/act"
# Path -> method and endpoint.
_ROUTES = {
    _ACT: ("POST", "get_action"),
    _HEALTH: ("GET", "health"),
    "/modality_config": ("GET", "get_modality_config"),
    "/server_info": ("GET", "get_server_info"),
    "/quantization_report": ("GET", "get_quantization_report"),
}
_JSON = "application/json"
_MAX_OPTIONS = 10
_TOKEN_HEADERS = "Authorization: Bearer TOKEN, or X-API-Token: TOKEN"


@dataclass(frozen=True)
class _EncodedAct(Encoded):
    """The body of a request for an action."""

    def decode(self) -> Any:
        """Return the observation.

        Raises:
            JsonError: no JSON.
            RequestError: no observation in it.
        """
        payload = json_arrays.loads(bytes(self.part))
        if isinstance(payload, dict) and "encoded" in payload:
            text = payload["encoded"]
            if len(payload) > 1 or not isinstance(text, str):
                raise RequestError("'encoded' must be a text and all that there is")
            inner = text.encode("utf-8", "surrogatepass")
            for _ in json_arrays.count_values(inner):
                pass
            payload = json_arrays.loads(inner)
        if not isinstance(payload, dict):
            raise RequestError(f"expected an object with 'observation', got {type(payload).__name__}")
        if "observation" not in payload:
            got = ", ".join(repr(key[:60]) for key in list(payload)[:10]) or "nothing"
            raise RequestError(f"Missing 'observation' field in payload, which has {got}")
        return payload["observation"]


class HTTPInferenceServer(RobotInferenceServer):
    """Serves a policy over HTTP: see `_ROUTES` for what can be asked.

    It has no `kill`: end it by a signal. With a token, everything but `/health` needs it as a header.
    """

    scheme = "http"

    def __init__(
        self,
        policy: ServedPolicy,
        port: int = 5555,
        host: str = "localhost",
        api_token: str | None = None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_waiting: int = MAX_WAITING,
        max_batch: int = DEFAULT_MAX_BATCH,
        info: Mapping[str, Any] | None = None,
        beside: RobotInferenceServer | None = None,
    ) -> None:
        """Listen for requests to `policy`; for the arguments and errors see `RobotInferenceServer`."""
        if api_token is not None and (api_token != api_token.strip() or not api_token.isprintable()):
            raise RequestError("api_token: no header can hold it: spaces around it, or control characters")
        given = strip_brackets(host).lower()
        self._names = {"localhost", given, sockets.gethostname().lower()}
        super().__init__(
            policy,
            host,
            port,
            api_token,
            max_message_bytes=max_message_bytes,
            max_waiting=max_waiting,
            max_batch=max_batch,
            info=info,
            beside=beside,
        )
        self.register_endpoint("health", _health, requires_input=False, immediate=True)

    def run(self) -> None:
        """Answer requests until the program is told to end; see `BaseInferenceServer.run`."""
        asked = ", ".join(
            f"{method} {path}" for path, (method, name) in _ROUTES.items() if name in self._endpoints
        )
        logger.info("Over HTTP can be asked: %s", asked)
        super().run()

    def _converse(self) -> Conversation:
        return HttpConversation(self.max_message_bytes, self._judge)

    def _judge(self, head: Head) -> Refusal | None:
        """Return why a request is refused whatever its body says, or None."""
        if (why := self._why_foreign(head)) is not None:
            return Refusal(403, why)
        method, endpoint = _ROUTES.get(head.path, ("", ""))
        if endpoint not in self._endpoints:
            return Refusal(404, f"Not Found: {did_you_mean(head.path[:60], _ROUTES)}")
        if head.method != method:
            return Refusal(405, f"Method Not Allowed: {head.path} takes {method}", (f"Allow: {method}",))
        if head.path != _HEALTH and not self._reader.is_token(token_of(head.headers)):
            text = f"Unauthorized: Invalid API token; send {_TOKEN_HEADERS}"
            return Refusal(401, text, ("WWW-Authenticate: Bearer",))
        kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != _JSON:
            return Refusal(415, f"Content-Type: expected {_JSON}, got {kind[:60] or 'none'}")
        packed = head.headers.get("content-encoding", "identity")
        if packed != "identity":
            return Refusal(415, f"Content-Encoding: {packed[:60]} is not read; send the text as it is")
        return None

    def _why_foreign(self, head: Head) -> str | None:
        """Return why a request looks as if a web page sent it through somebody's browser, or None."""
        host, origin = head.headers.get("host", ""), head.headers.get("origin")
        name = urllib.parse.urlsplit(f"//{host}").hostname or "" if _is_netloc(host) else host
        is_known = not host or name in self._names or name.endswith(".localhost") or _is_address(name)
        site = head.headers.get("sec-fetch-site", "none")
        if origin is not None and (not is_known or origin != f"http://{host}"):
            return f"Origin {origin[:100]!r}: web pages of other servers may not ask this one"
        if site not in ("none", "same-origin"):
            return f"Sec-Fetch-Site {site[:30]!r}: web pages of other servers may not ask this one"
        if not is_known and self._is_loopback:
            return f"Host {host[:100]!r} is no name of this machine; ask by its address, or as localhost"
        return None

    def _take_message(self, connection: Connection, message: Message) -> Iterator[None]:
        assert isinstance(message, HttpMessage)
        yield from self._begin(connection, [], self._take_request(connection, message))

    def _take_request(self, connection: Connection, message: HttpMessage) -> Iterator[list[bytes] | None]:
        refusal = message.refusal
        if refusal is not None:
            self._refusals.log(logging.WARNING, "%s refused: %.500s", message.head.path[:60], refusal.text)
            yield _answer(refusal.status, {"detail": refusal.text}, refusal.headers)
            return
        if not self.running:
            raise stopping()
        body = message.parts[0]
        _, endpoint = _ROUTES[message.head.path]
        options = _options_of(message.head)
        self._reader.check_options(endpoint, options)
        yield from json_arrays.count_values(body)
        request = Request(endpoint, _EncodedAct(memoryview(body)), options)
        yield from self._hand_over(connection, [], request, len(body))

    def _reply(self, name: str, outcome: Any, request: Request | None = None) -> list[bytes]:
        if not isinstance(outcome, Failure):
            outcome = attempt(lambda: _answer(200, outcome))
        if not isinstance(outcome, Failure):
            return outcome
        text = self._tell(name, outcome)
        if isinstance(outcome.error, UnavailableError):
            return _answer(503, {"detail": text}, ("Retry-After: 1",))
        if isinstance(outcome.error, json_arrays.JsonError):
            return _answer(422, {"detail": text})
        if outcome.is_refusal:
            return _answer(400, {"detail": text})
        return _answer(500, {"detail": f"Internal server error: {text}"})


def create_http_server(
    policy: ServedPolicy, port: int, host: str = "localhost", api_token: str | None = None
) -> HTTPInferenceServer:
    """Return a server; N1.5's function of this name."""
    return HTTPInferenceServer(policy, port, host, api_token)


def _health() -> dict[str, str]:
    return {"status": "healthy", "model": "GR00T"}


def _answer(status: int, content: Any, headers: tuple[str, ...] = ()) -> list[bytes]:
    """Return the parts of a reply, see `HttpConversation.reply`."""
    lines = [f"Content-Type: {_JSON}", *headers]
    return [str(status).encode(), *(line.encode("latin1") for line in lines), json_arrays.dumps(content)]


def _options_of(head: Head) -> dict[str, Any]:
    """Return the options that the query holds: `?seed=7`.

    Raises:
        RequestError: an option that is not a whole number, or twice there.
    """
    options: dict[str, Any] = {}
    try:
        fields = urllib.parse.parse_qsl(head.query, keep_blank_values=True, max_num_fields=_MAX_OPTIONS)
    except ValueError:
        raise RequestError(f"options: more than {_MAX_OPTIONS}") from None
    for name, text in fields:
        if name in options or not (text.isascii() and text.isdecimal() and len(text) <= 20):
            raise RequestError(f"options: {name:.60}: expected one whole number, got {text!r:.60}")
        options[name] = int(text)
    return options


def _is_netloc(host: str) -> bool:
    """Return whether a Host header has the form of one."""
    try:
        return urllib.parse.urlsplit(f"//{host}").netloc == host and "@" not in host
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
