"""Who may not ask over HTTP: without the token, too long, from a web page, or in another language.

Oracle: the status, what the server holds meanwhile, and a good client's answer after it.
"""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from gr00t.serving.client import NoServerError, ServerError
from gr00t.serving.endpoints import RequestError
from gr00t.serving.http.client import HTTPInferenceClient
from gr00t.serving.http.server import HTTPInferenceServer
from tests.serving.doubling_policy import DoublingPolicy
from tests.serving.http.http_sockets import (
    ACT,
    ask,
    doubled,
    read_reply,
    request_bytes,
    serving_http,
)
from tests.serving.recorded import TOKEN
from tests.serving.socket_helpers import client_at, serving
from tests.serving.sockets.test_zmtp import GREETING
from tests.serving.test_strangers import is_hung_up, stranger


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, False),
        ({"Authorization": "Bearer wrong"}, False),
        ({"Authorization": f"Basic {TOKEN}"}, False),
        ({"Authorization": "Bearer"}, False),
        ({"X_API_Token": TOKEN[:-1]}, False),
        ({"Authorization": f"Bearer {TOKEN}"}, True),
        ({"authorization": f"bearer {TOKEN}"}, True),
        ({"X_API_Token": TOKEN}, True),
    ],
    ids=range(8),
)
def test_a_token_is_compared_before_anything_of_the_body_is_kept(
    headers: dict[str, str], is_let_in: bool
) -> None:
    with serving_http(DoublingPolicy(), api_token=TOKEN) as (server, port):
        assert ask(port, path="/health", method="GET").status == 200
        if is_let_in:
            assert doubled(ask(port, ACT, **headers)) == 2
            return
        for path in ("/server_info", "/quantization_report", "/modality_config"):
            assert ask(port, path=path, method="GET", **headers).status == 401
        with stranger(port) as tcp:
            body = b"x" * 1_000_000
            begin = request_bytes(port, body, **headers)[: -len(body)]
            tcp.sendall(begin)  # answered before any of it comes
            reply = read_reply(tcp)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.content["detail"].startswith(
                "Unauthorized: Invalid API token; send Authorization: Bearer"
            )
            tcp.sendall(body)
            time.sleep(0.1)
            assert server.connections.held == 0
            assert is_hung_up(tcp)


def test_a_token_of_any_letters_is_compared_however_the_client_sends_it() -> None:
    token = "clé-鍵"
    with serving_http(DoublingPolicy(), api_token=token) as (_, port):
        with contextlib.closing(HTTPInferenceClient(port=port, api_token=token)) as client:
            assert client.get_server_info() is not None
        assert doubled(ask(port, ACT, Authorization=f"Bearer {token}")) == 2  # in UTF-8, as curl does
    with serving_http(DoublingPolicy(), api_token="clé") as (_, port):
        for sent, status in (("clé", 200), ("clè", 401)):
            request = request_bytes(port, ACT, X_API_Token=sent)
            with stranger(port) as tcp:
                tcp.sendall(request.replace(sent.encode(), sent.encode("latin1")))  # as requests does
                assert read_reply(tcp).status == status


@pytest.mark.parametrize("token", [" secret", "se\ncret", "secret\t"])
def test_a_token_that_no_header_can_hold_is_refused_at_once(token: str) -> None:
    with pytest.raises(RequestError, match="api_token: no header can hold it"):
        HTTPInferenceServer(DoublingPolicy(), port=0, api_token=token)


@pytest.mark.parametrize("length", [1_001, 50_000_000])
@pytest.mark.parametrize(("chunked", "announced"), [(False, False), (False, True), (True, False)])
def test_a_body_that_is_too_long_is_refused_and_none_of_it_kept(
    length: int, chunked: bool, announced: bool
) -> None:
    text = "at most 1000 are accepted: send fewer samples, or smaller frames, in each request"
    with serving_http(DoublingPolicy(), max_message_bytes=1_000) as (server, port), stranger(port) as tcp:
        if chunked:
            body = b"%x\r\n" % length + bytes(length) + b"\r\n0\r\n\r\n"
            sent = request_bytes(port, b"", Transfer_Encoding="chunked", Content_Length="") + body
        else:
            sent = request_bytes(port, bytes(length))
        if announced:
            tcp.sendall(sent[:-length])
            assert read_reply(tcp).status == 413
            return
        tcp.sendall(sent)  # to the end, as a client does before it reads
        reply = read_reply(tcp)
        assert reply.status == 413
        assert reply.content["detail"].endswith(text)
        assert server.connections.held == 0
        assert doubled(ask(port, ACT)) == 2


PAGE = {"Origin": "http://evil.example"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "robot.localhost"}, 200),
        ({"host": "[::1]"}, 200),
        ({"host": socket.gethostname()}, 200),
        ({"Host": ""}, 400),  # HTTP/1.1 asks for it
        (PAGE, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"host": "evil.example"}, 403),  # a name of somebody's own that leads here
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "evil.example/localhost"}, 403),
        ({"host": "["}, 403),
    ],
    ids=range(20),
)
def test_web_pages_may_not_ask(headers: dict[str, str], status: int) -> None:
    policy = DoublingPolicy()
    with serving_http(policy) as (_, port):
        if headers.get("host") == "evil.example" and "Origin" in headers:
            headers = {**headers, "Origin": f"http://evil.example:{port}"}
        with stranger(port, request_bytes(port, ACT, **headers)) as tcp:
            reply = read_reply(tcp)
        assert reply.status == status
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert policy.batches == ([[1.0]] if status == 200 else [])


def test_a_page_may_not_ask_beforehand_whether_it_may() -> None:
    with serving_http(DoublingPolicy()) as (_, port):
        reply = ask(port, method="OPTIONS", Access_Control_Request_Method="POST", **PAGE)
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_beyond_this_machine_any_name_is_one_but_pages_still_may_not_ask() -> None:
    with serving_http(DoublingPolicy(), host="*") as (_, port):
        assert doubled(ask(port, ACT, host="robot.example")) == 2
        rebound = {"host": "evil.example", "Origin": f"http://evil.example:{port}"}
        assert ask(port, ACT, **rebound).status == 403


STRANGERS = {
    "ZeroMQ": (
        GREETING,
        "it speaks ZeroMQ, and this is the HTTP server; for ZeroMQ start it without --http-server",
    ),
    "TLS": (
        bytes.fromhex("16030100c8010000c40303") + bytes(190),
        "it speaks TLS, which this server does not",
    ),
    "noise": (b"\x00\x01\x02\r\n\r\n", "it is no HTTP client"),
    "a long head": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, "it is no HTTP client"),
    "two lengths": (
        b"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "it is no HTTP client",
    ),
    "a split line": (b"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length : 1\r\n\r\n", "it is no HTTP client"),
}


def test_strangers_get_a_400_that_names_them_and_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with serving_http(DoublingPolicy()) as (server, port):
        for name, (sent, text) in STRANGERS.items():
            with stranger(port, sent) as tcp:
                with contextlib.suppress(ConnectionResetError):
                    assert read_reply(tcp).status == 400, name
                assert is_hung_up(tcp), name
            assert any(text in line for line in caplog.messages), name
            assert doubled(ask(port, ACT)) == 2
        assert server.connections.hung_up == len(STRANGERS)


def test_http_at_the_zeromq_port_is_told_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    with serving(DoublingPolicy()) as (_, port):
        reply = ask(port, ACT)
        assert reply.status == 400
        assert (
            reply.content
            == "it speaks HTTP, and this is the ZeroMQ server; for HTTP start it with --http-server, for "
            "WebSocket with --wire vla-eval or --wire openpi\n"
        )
        assert any("for HTTP start it with --http-server" in line for line in caplog.messages)
        with pytest.raises(ServerError, match=r"--wire openpi\s+\(HTTP 400\)"):
            HTTPInferenceClient(port=port).get_server_info()
    with (
        serving_http(DoublingPolicy()) as (_, port),
        client_at(port, timeout_ms=300) as client,
        pytest.raises(
            NoServerError, match="speaks HTTP: start it without --http-server, or ask it over HTTP"
        ),
    ):
        client.get_action({})
