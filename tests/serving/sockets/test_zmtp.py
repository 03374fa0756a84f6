"""The protocol of one connection. Oracle: the bytes that libzmq sends, and RFC 23 (ZMTP 3.0)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr00t.serving.sockets import zmtp
from gr00t.serving.sockets.zmtp import Message, PeerError, ZmtpConversation

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16 + 1 + 31)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"


def opened(limit: int = 1000) -> ZmtpConversation:
    conversation = ZmtpConversation(limit)
    assert conversation.receive(GREETING + READY) == []
    assert conversation.is_open
    conversation.replies.clear()
    return conversation


def test_the_handshake_is_libzmqs() -> None:
    conversation = ZmtpConversation(1000)
    assert bytes(conversation.replies) == b""  # a stranger's first byte may show that it is none
    conversation.receive(GREETING[:1])
    assert bytes(conversation.replies) == b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
    conversation.replies.clear()
    conversation.receive(GREETING[1:])
    assert bytes(conversation.replies) == (
        b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER\x08Identity\x00\x00\x00\x00"
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=4), max_size=5),
    st.lists(st.integers(1, 700), min_size=1, max_size=50),
)
def test_messages_arrive_whole_however_they_are_cut(sent: list[list[bytes]], cuts: list[int]) -> None:
    conversation = ZmtpConversation(10_000)
    stream = GREETING + READY + b"".join(map(zmtp.frames, sent))
    got: list[Message] = []
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        got += conversation.receive(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert [message.parts for message in got] == sent
    assert conversation.held == 0


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"G", "it is no ZeroMQ peer: it began with b'G'"),
        (b"POST / HTTP/1.1\r\n", "it speaks HTTP, and this is the ZeroMQ server; .* --http-server"),
        (b"\x16\x03\x01\x02\x00", "it speaks TLS, which this server does not; put a tunnel in front"),
        (b"\x01\x00", "it is no ZeroMQ peer"),  # ZMTP 1.0
        (b"\xff" + bytes(8) + b"\x00", "it is no ZeroMQ peer"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "the protocol of a ZeroMQ before version 4"),
        (GREETING.replace(b"NULL", b"PLAI"), "the mechanism b'PLAI'"),
        (GREETING + b"\x00\x00", "a message before the handshake was over"),
        (GREETING + READY.replace(b"REQ", b"SUB"), "expected a REQ or DEALER socket"),
        (GREETING + b"\x04\x06\x05HELLO", "expected a REQ or DEALER socket"),
        (GREETING + b"\x04\x00", "expected a REQ or DEALER socket"),
        (GREETING + b"\x04\x08\x05READY\xff\x00", "READY command is cut off"),
        (GREETING + b"\x06" + (5000).to_bytes(8, "big"), "a command of 5000 bytes"),
        (GREETING + READY + b"\x08\x00", "a frame has the flags 0x8"),
        (GREETING + READY + b"\x05\x00", "a frame has the flags 0x5"),
        (GREETING + READY + b"\x01\x00" * 17, "a message of more than 16 parts"),
        (GREETING + READY + b"\x02" + (2**32 + 1).to_bytes(8, "big"), "a message of 4294967297 bytes"),
        (GREETING + READY + b"\x02" + b"\xff" * 8, "a message of 18446744073709551615 bytes or more"),
    ],
)
def test_whoever_does_not_keep_to_it_is_hung_up_on(sent: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        ZmtpConversation(1000).receive(sent)


@pytest.mark.parametrize("size", [1001, 5_000_000])
def test_a_message_that_is_too_long_is_told_at_its_header_and_thrown_away(size: int) -> None:
    """So that the answer reaches a client that is still sending, and he does not take us for dead."""
    conversation = opened()
    sent = zmtp.frames([b"", bytes(size)])
    head = len(sent) - size
    assert conversation.receive(sent[: head - 1]) == []
    assert conversation.receive(sent[head - 1 : head]) == [Message([b"", b""], size)]
    for begin in range(head, len(sent), 65_536):
        assert conversation.receive(sent[begin : begin + 65_536]) == []
        assert conversation.held == 0
    assert conversation.receive(zmtp.frames([b"", b"x"])) == [Message([b"", b"x"])]
    parts = [b"", *[bytes(400)] * 4]
    assert conversation.receive(zmtp.frames(parts)) == [Message([*parts[:3], b""], 1200)]
    (message,) = conversation.receive(zmtp.frames([b"", bytes(1000)]))
    assert message == Message([b"", bytes(1000)])


def test_no_more_is_held_than_a_message_may_have() -> None:
    conversation = opened()
    for _ in range(3):
        conversation.receive(b"\x03" + (600).to_bytes(8, "big") + bytes(600))
        assert conversation.held <= 1000


def test_a_heartbeat_is_answered_between_the_parts_of_a_message_too() -> None:
    conversation = opened()
    ping = b"\x04\x0a\x04PING\x00\x0a\x01\x02\x03"
    assert conversation.receive(b"\x01\x00" + ping + b"\x00\x01x") == [Message([b"", b"x"])]
    assert bytes(conversation.replies) == b"\x04\x08\x04PONG\x01\x02\x03"
