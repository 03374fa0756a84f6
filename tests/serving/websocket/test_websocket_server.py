"""The server over WebSocket, whatever its wire. Oracle: RFC 6455 as the client of `websockets` speaks it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import msgpack
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gr00t.serving.harnesses.openpi import OpenPiServer
from gr00t.serving.harnesses.vla_eval import VlaEvalServer
from gr00t.serving.tokens import token_of
from gr00t.serving.websocket.conversation import MAX_WAITING
from tests.serving.harnesses.test_vla_eval import observation
from tests.serving.http.http_sockets import read_reply
from tests.serving.websocket.frames import BINARY, CLOSE, HANDSHAKE, masked, spoken
from tests.serving.websocket.peers import ScriptedPolicy, asked, client, message, serving

KINDS = [VlaEvalServer, OpenPiServer]


def get(port: int, path: str, **headers: str) -> Any:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port), 5) as tcp:
        tcp.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{lines}\r\n".encode())
        return read_reply(tcp)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/health", "/healthz"])
def test_health_needs_no_token_and_no_websocket(kind: Any, path: str) -> None:
    with serving(kind, api_token="secret") as (_, port):
        reply = get(port, path)
    assert (reply.status, reply.content) == (200, {"status": "ok"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/?token=wrong", {}, 401),
        ("/?token=secret&token=secret", {}, 401),
        ("/", {"Authorization": "Api-Key wrong"}, 401),
        ("/", {"Authorization": "Basic secret"}, 401),
        ("/?token=secret", {}, None),
        ("/any/path?token=s%65cret", {}, None),
        ("/", {"Authorization": "Api-Key secret"}, None),
        ("/", {"Authorization": "Bearer secret"}, None),
        ("/", {"X-API-Token": "secret"}, None),
        ("/?token=secret", {"Origin": "http://localhost"}, 403),
        ("/?token=secret", {"Origin": "null"}, 403),
        ("/?token=secret", {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_who_may_shake_hands(kind: Any, path: str, headers: dict[str, str], status: int | None) -> None:
    with serving(kind, api_token="secret") as (server, port):
        if status is None:
            with client(port, path, additional_headers=headers) as ws:
                if kind is OpenPiServer:
                    ws.recv(5)  # the metadata
                assert ws.ping().wait(5)
            return
        with pytest.raises(InvalidStatus) as caught, client(port, path, additional_headers=headers):
            pass
        assert caught.value.response.status_code == status
        assert server.worker.waiting == 0


@pytest.mark.parametrize(
    ("token", "path"),
    [
        ("a+b/c==", "/?token=a+b/c=="),
        ("a+b/c==", "/?x=1&token=a%2Bb%2Fc%3D%3D&y"),
        ("p\xe4&\u4e2d", "/?token=p%C3%A4%26%E4%B8%AD"),
    ],
)
def test_tokens_as_urls_write_them(token: str, path: str) -> None:
    with serving(VlaEvalServer, api_token=token) as (_, port), client(port, path) as ws:
        assert asked(ws, message("hello", {}))["type"] == "hello"


@pytest.mark.parametrize("raw", ["p\xe4".encode(), "p\xe4".encode("latin1")])
def test_tokens_that_are_not_ascii(raw: bytes) -> None:
    token = b"Authorization: Api-Key " + raw + b"\r\n\r\n"
    with serving(VlaEvalServer, api_token="p\xe4") as (_, port):
        head, _ = spoken(port, HANDSHAKE[:-2] + token)
        assert head.startswith(b"HTTP/1.1 101")
    # Later versions of `websockets` read headers as Latin-1, earlier ones as ASCII with surrogate escapes.
    for read in (raw.decode("latin1"), raw.decode("ascii", "surrogateescape")):
        assert token_of({"authorization": f"Api-Key {read}"}, ("api-key",)) == "p\xe4".encode()


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(
        "gr00t.serving.message_reader.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b
    )
    with serving(OpenPiServer, api_token="secret") as (_, port), client(port, "/?token=secret"):
        pass
    assert compared == [(b"secret", b"secret")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_request_is_told_what_this_is(kind: Any) -> None:
    with serving(kind) as (_, port):
        reply = get(port, "/act")
        assert reply.status == 426
        assert "WebSocket" in reply.content


@pytest.mark.parametrize("first", [b"\xff" + bytes(8) + b"\x7f\x03", b"\x16\x03\x01\x02", b"hello\r\n\r\n"])
def test_strangers_are_hung_up_on(first: bytes) -> None:
    with serving(OpenPiServer) as (server, port):
        with socket.create_connection(("127.0.0.1", port), 5) as tcp:
            tcp.sendall(first)
            tcp.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while tcp.recv(4096):
                    pass
        assert server.connections.hung_up == 1


def test_a_handshake_without_an_end() -> None:
    with serving(OpenPiServer) as (server, port):
        with socket.create_connection(("127.0.0.1", port), 5) as tcp, contextlib.suppress(OSError):
            tcp.settimeout(5)
            tcp.sendall(b"GET / HTTP/1.1\r\n" + 20 * (b"A: " + 4000 * b"x" + b"\r\n"))
            while tcp.recv(4096):
                pass
        _until(lambda: server.connections.count == 0)
        assert server.connections.hung_up == 1


def test_frames_behind_the_handshake_wait_for_it() -> None:
    """The library reads on before it has answered: it took such a close frame for nothing."""
    sent = HANDSHAKE + masked(BINARY, message("hello", {})) + masked(CLOSE, (1000).to_bytes(2, "big"))
    with serving(VlaEvalServer) as (_, port):
        head, frames = spoken(port, sent, finish=False)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols")
        # It is gone before it could be answered.
        assert [(frame.opcode, frame.data) for frame in frames] == [(CLOSE, b"\x03\xe8")]
        with client(port) as ws:
            assert asked(ws, message("hello", {}))["type"] == "hello"


def test_too_long_a_message_is_not_kept() -> None:
    with serving(VlaEvalServer, max_message_bytes=10_000) as (server, port), client(port) as ws:
        ws.send(bytes(20_000))
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
    assert server.connections.held == 0


def test_fragments_are_joined_and_bounded_together() -> None:
    sent = message("hello", {"benchmark": "x"})
    with serving(VlaEvalServer, max_message_bytes=10_000) as (server, port):
        with client(port) as ws:
            ws.send([sent[:5], b"", sent[5:9], sent[9:]])
            assert msgpack.unpackb(ws.recv(5))["type"] == "hello"
        with client(port) as ws:
            with contextlib.suppress(ConnectionClosed):
                ws.send(bytes(999) for _ in range(11))
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(5)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
    assert server.connections.held == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_question_of_a_client_that_is_gone_is_not_computed(how: str) -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy) as (server, port):
        policy.gate.clear()
        with client(port) as first, contextlib.ExitStack() as stack:
            first.send(message("observation", observation()))
            assert policy.begun.acquire(timeout=10)
            second = stack.enter_context(client(port))
            second.send(message("observation", observation()))
            _until(lambda: server.worker.waiting == 1)
            if how == "close":
                second.close()
            else:
                second.socket.shutdown(socket.SHUT_RDWR)
            _until(lambda: server.connections.count == 1)
            policy.gate.set()
            assert msgpack.unpackb(first.recv(10))["type"] == "action"
            assert asked(first, message("observation", observation()))["type"] == "action"
        assert server.worker.abandoned == 1
        assert len(policy.seen) == 1


def test_a_client_that_sends_on_and_on_without_an_answer_is_hung_up_on() -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy) as (server, port):
        policy.gate.clear()
        with client(port) as ws, contextlib.suppress(ConnectionClosed, OSError):
            for _ in range(MAX_WAITING + 2):
                ws.send(message("observation", observation()))
            _until(lambda: server.connections.count == 0)
        policy.gate.set()
        with client(port) as ws:
            assert asked(ws, message("hello", {}))["type"] == "hello"


def test_a_client_that_takes_no_replies_holds_little() -> None:
    with serving(VlaEvalServer) as (server, port), client(port) as ws:
        # It never reads: the system's buffers and ours fill, and then it is not read from any more.
        ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end = threading.Event()

        def flood() -> None:
            with contextlib.suppress(ConnectionClosed, OSError):
                while not end.is_set():
                    ws.socket.sendall(_masked(message("hello", {})))

        ws.recv_events_exc = None
        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        time.sleep(0.5)
        with client(port) as other:
            assert asked(other, message("observation", observation()))["type"] == "action"
        assert server.connections.held < 2_000_000
        end.set()
        ws.socket.close()
        thread.join(5)


def _masked(data: bytes) -> bytes:
    return b"\x82" + bytes([0x80 | 126]) + len(data).to_bytes(2, "big") + bytes(4) + data


def test_a_server_that_ends_answers_what_waits() -> None:
    policy = ScriptedPolicy()
    with serving(VlaEvalServer, policy) as (server, port), client(port) as first, client(port) as second:
        policy.gate.clear()
        first.send(message("observation", observation(), seq=1))
        assert policy.begun.acquire(timeout=10)
        second.send(message("observation", observation(), seq=2))
        _until(lambda: server.worker.waiting == 1)
        server.running = False
        server.connections.wake()
        _until(lambda: server.worker.is_stopping)
        policy.gate.set()
        assert msgpack.unpackb(first.recv(5))["type"] == "action"
        reply = msgpack.unpackb(second.recv(5))
    assert (reply["type"], reply["seq"]) == ("error", 2)
    assert reply["payload"]["error"] == "stopping: the server was told to end"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_ends_says_so(kind: Any) -> None:
    with serving(kind) as (server, port), client(port) as ws:
        if kind is OpenPiServer:
            ws.recv(5)
        server.running = False
        server.connections.wake()
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(5)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "the server was told to end")


def test_an_error_of_the_policys_does_not_end_the_server() -> None:
    class Broken(ScriptedPolicy):
        def get_action(self, observations: dict[str, Any], **options: Any) -> dict[str, Any]:
            raise KeyError("state.x")

    with serving(VlaEvalServer, Broken()) as (_, port), client(port) as ws:
        for number in range(2):
            reply = asked(ws, message("observation", observation(), seq=number))
            assert (reply["type"], reply["seq"]) == ("error", number)
            assert reply["payload"]["error"] == "KeyError: 'state.x'"


def _until(holds: Any) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)
