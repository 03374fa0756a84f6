"""What a server can be asked: endpoints, checked requests, and what becomes of a failure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gr00t.serving.wires import n1_5 as wire

T = TypeVar("T")


class RequestError(ValueError):
    """A request that no endpoint can take; the text names the field."""


class UnavailableError(RequestError):
    """A request that another moment would take; its text begins with `wire.BUSY` or `wire.STOPPING`."""


class PreparedRequest(Protocol):
    """A request of a batched endpoint after everything that is done for it alone."""

    @property
    def samples(self) -> int:
        """How much of a batch it takes."""

    @property
    def kind(self) -> Hashable:
        """Only requests of equal kind share a batch."""


class BatchedEndpoint(Protocol):
    """An endpoint that answers several requests at once."""

    def limit(self) -> int:
        """Return how many samples may share a batch at this moment, at least 1."""

    def prepare(self, data: Any, **options: Any) -> PreparedRequest:
        """Check one request and make it ready; what this raises is that request's error reply."""

    def answer(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Return one result, or a Failure, for each of some prepared requests of one kind."""


@dataclass(frozen=True)
class EndpointHandler:
    """What answers an endpoint: `handler(data, **options)`, or `handler(**options)` without input.

    Attributes:
        options: the names that a request's `options` may hold for it.
        immediate: it is answered while others are computed, so it must be quick and safe beside them.
        batched: what answers several requests at once, in place of `handler`.
    """

    handler: Callable[..., Any]
    requires_input: bool = True
    options: tuple[str, ...] = ()
    immediate: bool = False
    batched: BatchedEndpoint | None = None

    def answer(self, request: Request) -> Any:
        """Return the result of one request."""
        if self.batched is not None:
            result = self.batched.answer([self.batched.prepare(request.input(), **request.options)])[0]
            if isinstance(result, Failure):
                raise result.error
            return result
        if self.requires_input:
            return self.handler(request.input(), **request.options)
        return self.handler(**request.options)


@dataclass(frozen=True)
class Encoded:
    """The input of a request, still as the bytes that came."""

    part: memoryview

    def decode(self) -> Any:
        """Return what it says.

        Raises:
            WireError: it cannot be decoded.
        """
        return wire.decode(self.part)


@dataclass(frozen=True)
class Request:
    """A request whose form and token have been checked. What `data` holds is the endpoint's to check."""

    endpoint: str
    data: Any
    options: dict[str, Any]

    def input(self) -> Any:
        """Return `data`, decoded if it still has to be: that may take a while."""
        return self.data.decode() if isinstance(self.data, Encoded) else self.data


@dataclass(frozen=True)
class Failure:
    """What was raised in place of a result."""

    error: Exception

    @property
    def is_refusal(self) -> bool:
        """Whether one of our own classes says what is wrong with the request: no traceback is needed."""
        return isinstance(self.error, ValueError) and type(self.error).__module__.startswith("gr00t.")

    @property
    def text(self) -> str:
        """What the sender is told."""
        # The text of a ValueError says what was wrong; that of a KeyError would be a bare word.
        if isinstance(self.error, ValueError):
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error}"


def attempt(call: Callable[[], T]) -> T | Failure:
    """Return what `call` returns, or what it raised as a Failure.

    This is the outermost border: whatever one request provokes must not stop the server for everybody.
    """
    try:
        return call()
    except Exception as error:  # noqa: BLE001
        return Failure(error)
