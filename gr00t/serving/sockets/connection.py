"""One peer of a server: what it has sent, what it is owed, and whether it is still there."""

from __future__ import annotations

import collections
import selectors
import socket as sockets
import time
from typing import Protocol

from gr00t.serving.sockets.address import is_loopback, name_address
from gr00t.serving.sockets.zmtp import Message

_LITTLE_S = 0.005  # of reading within a second or so
_UNTAKEN_BYTES = 256 * 1024  # of replies; then a peer has to take them first


class Conversation(Protocol):
    """What a peer has sent, in the language of its protocol, of which everything else knows nothing.

    Attributes:
        replies: what the protocol itself has to answer; the owner sends and empties it.
        is_open: whether the peer has shown that it speaks the protocol.
        is_over: whether the connection is to end with the reply that was asked for last.
        first_of_reply: the bytes with which every reply begins.
        may_listen_on: whether a peer that says no more may still wait for an answer.
        expected: how many more bytes it can take before somebody has to look at what came.
        held: how many bytes of an unfinished message are kept.
    """

    replies: bytearray

    @property
    def is_open(self) -> bool:
        """See the class."""

    @property
    def may_listen_on(self) -> bool:
        """See the class."""

    @property
    def is_over(self) -> bool:
        """See the class."""

    @property
    def first_of_reply(self) -> bytes:
        """See the class."""

    @property
    def expected(self) -> int:
        """See the class."""

    @property
    def held(self) -> int:
        """See the class."""

    def receive(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete, or raise a PeerError."""

    def reply(self, parts: list[bytes]) -> bytes:
        """Return the bytes of a reply."""


class Connection:
    """One peer.

    Attributes:
        name: its address and port, for the log.
        from_loopback: whether it is on this machine.
        inbox: its messages that nobody has looked at yet; it is not read from meanwhile.
        spent: seconds of reading that it has cost lately.
        is_looked_at: whether somebody goes through its inbox at present.
        is_gone: whether it was closed, by either side. What it asked for need not be computed.
        pending: how many of its requests wait to be computed.
        is_finished: whether it says no more. It may still listen, or it has closed altogether.
        is_begun: whether the first byte of its next reply was sent ahead.
    """

    def __init__(self, socket: sockets.socket, address: tuple[str, int], conversation: Conversation) -> None:
        """Begin a conversation over an accepted socket."""
        self.name = name_address(*address[:2])
        self.from_loopback = is_loopback(address[0])
        self.inbox: collections.deque[Message] = collections.deque()
        self.spent = 0.0
        self.is_looked_at = False
        self.is_gone = False
        self.pending = 0
        self.is_finished = False
        self.is_begun = False
        self.socket = socket
        self.conversation = conversation
        self.untaken = bytearray()
        self.events = 0
        self.last_heard = self.holds_since = self.began = time.monotonic()
        self.held = 0

    def rank(self) -> tuple[bool, bool, float]:
        """Return what decides who is read first: whoever has cost little, and then whoever is no stranger."""
        return self.spent > _LITTLE_S, not self.conversation.is_open, self.spent

    @property
    def is_clogged(self) -> bool:
        """Whether it has to take replies before it may ask for more."""
        return len(self.untaken) >= _UNTAKEN_BYTES

    @property
    def is_over(self) -> bool:
        """Whether it says no more and is owed nothing."""
        owed = self.pending or self.inbox or self.is_looked_at or self.untaken
        return self.is_finished and not owed

    def wanted(self) -> int:
        """Return the events of its socket that matter at present."""
        # Also an inbox to go on with makes it ready, once there is room for the replies to it.
        is_left = self.inbox and not self.is_looked_at
        events = selectors.EVENT_WRITE if self.untaken or is_left else 0
        if not (self.inbox or self.is_clogged or self.is_finished):
            events |= selectors.EVENT_READ
        return events

    def holding(self) -> int:
        """Return how many bytes are held for it."""
        waiting = sum(len(part) for message in self.inbox for part in message.parts)
        return self.conversation.held + waiting + len(self.untaken)
