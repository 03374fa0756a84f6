"""Where the fields of a message lie, found without building one of its values.

A message is walked once, value by value, before anything is decoded: what it declares is added up, so that
neither a map of millions of keys nor a list of a million lists of a million values each is ever begun, and
the fields of its outermost map are found, so that a token can be compared while the rest is still bytes.

The walk pauses now and then (it is a generator): whoever has to answer others meanwhile can.

This file runs inside the simulator's process, too: Python 3.8, nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

# A frame of 256 x 256 written as nested lists instead of an array still fits. The bound is needed because
# msgpack spends one byte on an empty list and Python spends 64.
MAX_VALUES = 1_000_000
# The report on a quantized model has some thousand keys, an observation some ten.
MAX_KEYS = 50_000
MAX_TEXT_BYTES = 65_536
MAX_DEPTH = 60
# Sixteen samples of two 640 x 480 frames are 30 MB.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_PAUSE_EVERY = 10_000  # values: about a millisecond


class WireError(ValueError):
    """A message that cannot be decoded; the text says which part and why."""


class Span(NamedTuple):
    """Where a value lies in a message: from the byte `begin` to before the byte `end`."""

    begin: int
    end: int


@dataclass(frozen=True)
class Outline:
    """What lies where.

    Attributes:
        kind: the Python type that the whole message has.
        fields: per key of the outermost map, if it is one, where its value begins and ends.
    """

    kind: str
    fields: dict[str, Span]


def _widths() -> bytes:
    """Return per first byte how many bytes a value takes; 0 where more has to be read."""
    widths = bytearray(256)
    for code in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        widths[code] = 1
    for code in range(0xA0, 0xC0):
        widths[code] = 1 + (code & 31)  # short text
    for code, size in {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.items():
        widths[code] = 1 + size
    for code, size in {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}.items():
        widths[code] = 1 + size
    return bytes(widths)


_WIDTHS = _widths()
# Per first byte: how many bytes of size follow. Of containers also whether it is a map.
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_CONTAINERS = {
    **dict.fromkeys(range(128, 144), (0, True)),
    **dict.fromkeys(range(144, 160), (0, False)),
    0xDC: (2, False),
    0xDD: (4, False),
    0xDE: (2, True),
    0xDF: (4, True),
}


def kind_of(code: int) -> str:
    """Return the name of the Python type that a value with this first byte has."""
    if 0xA0 <= code < 0xC0 or code in _TEXT:
        return "str"
    if code in _CONTAINERS:
        return "dict" if _CONTAINERS[code][1] else "list"
    if code in _BYTES:
        return "bytes"
    return {0xC0: "NoneType", 0xC2: "bool", 0xC3: "bool", 0xCA: "float", 0xCB: "float"}.get(code, "int")


def text_bytes(payload: bytes, span: Span) -> bytes | None:
    """Return the bytes of a text that lies at `span`, or None if something else does."""
    code = payload[span.begin]
    if kind_of(code) != "str":
        return None
    return payload[span.begin + 1 + _TEXT.get(code, 0) : span.end]


def outline(payload: bytes) -> Outline:
    """Return the outline of a message; see `walk`."""
    steps = walk(payload)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Outline = end.value
            return found


def walk(payload: bytes) -> Generator[None, None, Outline]:
    """Find the outline of a message, with a pause after each millisecond or so.

    Raises:
        WireError: not msgpack, truncated, followed by other bytes, nested too deeply, or more values, keys or
            longer texts than a message needs.
    """
    walker = _Walker(payload)
    if not payload:
        raise _incomplete()
    kind = kind_of(payload[0])
    fields: dict[str, Span] = {}
    if kind != "dict":
        yield from walker.skip()
    else:
        for _ in range(walker.enter_map()):
            key_at = walker.at
            yield from walker.skip()
            key = text_bytes(payload, Span(key_at, walker.at))
            if key is None and kind_of(payload[key_at]) != "bytes":
                raise WireError(
                    f"not a msgpack message: {kind_of(payload[key_at])} is not allowed for map key"
                )
            value_at = walker.at
            yield from walker.skip()
            if key is not None:
                fields[key.decode("utf-8", "replace")] = Span(value_at, walker.at)
    if walker.at < len(payload):
        raise WireError("unpack(b) received extra data.")  # NVIDIA's server says so
    return Outline(kind, fields)


class _Walker:
    """A place in a message, and what has been counted on the way to it."""

    def __init__(self, payload: bytes) -> None:
        self.at = 0
        self._payload = payload
        self._values = 0  # declared so far, whether they are there or not
        self._keys = 0

    def enter_map(self) -> int:
        """Step into the map that begins here; return how many keys it has."""
        return self._enter(self._payload[self.at]) // 2

    def skip(self) -> Generator[None, None, None]:
        """Step over the value that begins here."""
        payload, end, widths = self._payload, len(self._payload), _WIDTHS
        open_above = []  # values left in each container that is open
        left = 1
        at = self.at
        pause = _PAUSE_EVERY
        while True:
            while left:
                if at >= end:
                    raise _incomplete()
                left -= 1
                code = payload[at]
                width = widths[code]
                if width:
                    at += width
                elif code in _CONTAINERS:
                    self.at = at
                    open_above.append(left)
                    left = self._enter(code)
                    at = self.at
                    if len(open_above) > MAX_DEPTH:
                        raise WireError("message is nested too deeply")
                else:
                    self.at = at
                    self._step_over(code)
                    at = self.at
                pause -= 1
                if not pause:
                    yield
                    pause = _PAUSE_EVERY
            if not open_above:
                break
            left = open_above.pop()
        if at > end:
            raise _incomplete()
        self.at = at

    def _size(self, size_bytes: int) -> int:
        """Read a size behind the first byte of a value, and step over both."""
        stop = self.at + 1 + size_bytes
        if stop > len(self._payload):
            raise _incomplete()
        size = int.from_bytes(self._payload[self.at + 1 : stop], "big")
        self.at = stop
        return size

    def _enter(self, code: int) -> int:
        """Step into a container; return how many values it declares, keys included."""
        size_bytes, keyed = _CONTAINERS[code]
        if size_bytes:
            count = self._size(size_bytes)
        else:
            self.at += 1
            count = code & 15
        values = 2 * count if keyed else count
        if values > len(self._payload):
            raise WireError(f"not a msgpack message: {count} exceeds what follows")
        self._values += values
        if keyed:
            self._keys += count
        if self._values > MAX_VALUES:
            raise WireError(f"message with more than {MAX_VALUES} values; send numbers as arrays")
        if self._keys > MAX_KEYS:
            raise WireError(f"message with more than {MAX_KEYS} keys")
        return values

    def _step_over(self, code: int) -> None:
        """Step over a text or bytes."""
        if code == 0xC1:
            raise WireError("not a msgpack message: invalid byte")
        if code not in _TEXT and code not in _BYTES:
            raise WireError("message with an extension type; none is used here")
        size = self._size(_TEXT[code] if code in _TEXT else _BYTES[code])
        if code in _TEXT and size > MAX_TEXT_BYTES:
            raise WireError(f"text of {size} bytes; at most {MAX_TEXT_BYTES} are accepted")
        if self.at + size > len(self._payload):
            raise _incomplete()
        self.at += size


def _incomplete() -> WireError:
    return WireError("not a msgpack message: Unpack failed: incomplete input")
