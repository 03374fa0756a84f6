"""What a wire over WebSocket is: how one peer is greeted, read and answered. It knows no socket."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from gr00t.serving.endpoints import Encoded
from gr00t.serving.sockets.zmtp import Message

# Parts of a reply: `binary` or `text` and the content; if it is the last one, also a code and the reason.
Reply = list[bytes]


@dataclass(frozen=True)
class WebSocketMessage(Message):
    """One message: the bytes or the text that a frame, or several, brought."""

    is_text: bool = False


@dataclass(frozen=True)
class Ask:
    """What the policy is to be asked.

    Attributes:
        observation: decoded by the thread that computes.
        options: those of `get_action`.
    """

    observation: Encoded
    options: dict[str, Any]


class Session(Protocol):
    """The wire's side of one connection. Its messages come one by one, each after the answer to the last."""

    @property
    def greeting(self) -> bytes | None:
        """What is said first, or None; asked once, when the handshake is over."""

    def take(self, message: WebSocketMessage) -> Generator[None, None, Ask | Reply | None]:
        """Take a message, with a pause now and then; return what follows: a question, a reply, or nothing.

        Raises:
            ValueError: It cannot be taken; `tell` says so to the sender.
        """

    def answer(self, result: dict[str, Any]) -> Reply:
        """Return the reply to the last question, given the policy's answer.

        Raises:
            ValueError: It is no answer for this robot.
        """

    def tell(self, error: str) -> Reply:
        """Return the reply that says what was wrong with the last message."""


def last_words(code: int, reason: str) -> Reply:
    """Return the reply that only ends the connection."""
    return [b"", b"", str(code).encode(), reason.encode("utf-8", "replace")]
