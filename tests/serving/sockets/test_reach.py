"""Addresses of both families, and why there is no answer. Oracle: the system's own sockets, and the text."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gr00t.serving.client import NoServerError
from gr00t.serving.sockets import address, reach
from gr00t.serving.sockets.address import BindError, describe_reach, is_loopback, resolve_host
from tests.serving.doubling_policy import DoublingPolicy
from tests.serving.recorded import TOKEN
from tests.serving.socket_helpers import client_at, free_port, serving
from tests.serving.test_strangers import answer


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 address ::1")


@needs_ipv6
@pytest.mark.parametrize(
    ("server", "written", "clients"),
    [
        ("::1", "[::1]", ["::1", "[::1]", "0:0:0:0:0:0:0:1"]),
        ("[::1]", "[::1]", ["::1"]),
        ("::", "[::]", ["::1", "127.0.0.1", "localhost", "::ffff:127.0.0.1"]),
        ("localhost", "127.0.0.1", ["localhost", "127.0.0.1"]),
        ("*", "0.0.0.0", ["127.0.0.1", "0.0.0.0", "localhost"]),
    ],
)
def test_a_server_of_either_family_is_reached_and_may_be_ended_from_here(
    server: str, written: str, clients: list[str]
) -> None:
    with serving(DoublingPolicy(), host=server) as (running, port):
        assert running.address == f"tcp://{written}:{port}"
        for host in clients:
            with client_at(port, host=host) as client:
                assert answer(client, 3) == 6, host
        with client_at(port, host=clients[0]) as client:
            client.kill_server()


@contextlib.contextmanager
def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> Iterator[None]:
    """Let some names have these addresses."""
    found = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host in known and not known[host]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [entry for one in known.get(host, [host]) for entry in found(one, port, *args, **options)]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


@needs_ipv6
@pytest.mark.parametrize("order", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
@pytest.mark.parametrize("server", ["::1", "127.0.0.1"])
def test_of_a_names_addresses_the_one_that_listens_is_taken(
    monkeypatch: pytest.MonkeyPatch, server: str, order: list[str]
) -> None:
    with names(monkeypatch, robot=order), serving(DoublingPolicy(), host=server) as (running, port):
        with client_at(port, host="robot") as client:
            assert answer(client, 2) == 4
        assert resolve_host("robot") == "127.0.0.1"
        running.running = False


def test_a_name_that_is_known_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[str] = []
    with (
        names(monkeypatch, late=known),
        serving(DoublingPolicy()) as (_, port),
        client_at(port, host="late") as client,
    ):
        started = time.monotonic()
        with pytest.raises(NoServerError, match="host 'late': not a name or address that is known here: "):
            answer(client, 1)
        assert time.monotonic() - started < 1
        assert client.ping() is False
        timer = threading.Timer(0.3, known.append, ["127.0.0.1"])
        timer.start()
        client.wait_until_ready(5)
        timer.join()


@needs_ipv6
def test_where_nobody_listens_is_told_at_once_whatever_the_family() -> None:
    port = free_port()
    for host, where in [
        ("::1", f"[::1]:{port}"),
        ("[::1]", f"[::1]:{port}"),
        ("localhost", f"127.0.0.1:{port}"),
    ]:
        with client_at(port, host=host, timeout_ms=200) as client:
            started = time.monotonic()
            with pytest.raises(NoServerError, match=re.escape(f"(nothing listens at {where})")):
                answer(client, 1)
            assert time.monotonic() - started < 2


@contextlib.contextmanager
def listening(says: bytes | None) -> Iterator[int]:
    """Something else that listens: it says this to everybody and hangs up, or says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    kept.append(peer)
                    if says is not None:
                        peer.sendall(says)
                        peer.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        for peer in kept:
            peer.close()


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "speaks HTTP: start it without --http-server, or ask it over HTTP",
        ),
        (b"220 mail.example ESMTP\r\n", "does not speak ZeroMQ"),
        (b"", "does not speak ZeroMQ"),
        (b"\xff" + bytes(8) + b"\x7f", "speaks ZeroMQ, but did not end the handshake"),
        (None, "does not answer: a wrong address, a firewall in between, or it is busy"),
    ],
    ids=range(5),
)
def test_what_listens_there_instead_is_named(
    says: bytes | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_ASK_S", 0.3)
    with (
        listening(says) as port,
        client_at(port, timeout_ms=200) as client,
        pytest.raises(NoServerError, match=re.escape(why)),
    ):
        answer(client, 1)


@pytest.mark.parametrize(
    ("listens_on", "here"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("::ffff:192.0.2.7", False),
    ],
)
def test_who_can_reach_it_is_said_with_the_flag_that_changes_it(
    listens_on: str, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "addresses_here", lambda: ["192.0.2.7", "2001:db8::7"])
    assert is_loopback(listens_on) is here
    said = describe_reach(listens_on)
    if here:
        assert said == "reachable from this machine only; --host 0.0.0.0 for robots elsewhere"
        return
    at = {
        "0.0.0.0": ", at 192.0.2.7;",
        "::": ", at 192.0.2.7, 2001:db8::7;",
    }.get(listens_on, f" at {listens_on} only;")
    assert said == f"reachable from other machines{at} --host localhost for this machine only"


def test_the_addresses_of_this_machine_are_those_it_can_listen_on() -> None:
    for found in address.addresses_here():
        with socket.socket(address.family_of(found)) as probe:
            probe.bind((found, 0))
        assert not is_loopback(found)


@pytest.mark.parametrize(
    ("host", "token", "warned"), [("*", None, True), ("*", TOKEN, False), ("localhost", None, False)]
)
def test_the_log_says_where_it_listens_and_warns_of_an_open_door(
    host: str, token: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(DoublingPolicy(), host=host, api_token=token) as (server, _):
        pass
    assert f"Server is ready and listening on {server.address}" in caplog.messages
    whom = "this machine only; --host 0.0.0.0" if host == "localhost" else "other machines"
    assert any(line.startswith(f"{server.address} is reachable from {whom}") for line in caplog.messages)
    assert any("has no API token" in line for line in caplog.messages) is warned


@pytest.mark.parametrize("host", ["no such name", "nosuch.invalid", "a/b", "tcp://robot", "\ud800"])
def test_a_host_that_is_none_is_named(host: str) -> None:
    with pytest.raises(BindError, match="not a name or address that is known here"):
        resolve_host(host)
    with (
        client_at(5555, host=host) as client,
        pytest.raises(NoServerError, match="not a name or address that is known here"),
    ):
        client.get_action({})
