"""What a message is allowed to declare. Oracle: msgpack's own reading, and the memory that nothing takes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr00t.serving.wires import n1_5 as wire
from gr00t.serving.wires import outline
from gr00t.serving.wires.outline import WireError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=30,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=18))
def test_every_field_lies_where_msgpack_finds_it(message: dict[str, Any]) -> None:
    payload = msgpack.packb(message)
    found = outline.outline(payload)
    assert found.kind == "dict"
    assert list(found.fields) == list(message)
    for key, span in found.fields.items():
        value = msgpack.unpackb(payload[span.begin : span.end])
        assert msgpack.packb(value) == msgpack.packb(message[key])
        assert outline.kind_of(payload[span.begin]) == type(message[key]).__name__
        if isinstance(message[key], str):
            assert outline.text_bytes(payload, span) == message[key].encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_what_it_lets_pass_of_random_bytes_msgpack_can_read_or_refuses_by_its_keys(payload: bytes) -> None:
    try:
        outline.outline(payload)
    except WireError:
        return
    try:
        msgpack.unpackb(payload)
    except ValueError as error:
        assert "map key" in str(error) or "utf-8" in str(error)  # noqa: PT017


def array32(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


BOMBS = {
    "a list of lists that each declare a million": (
        array32(999_999) * 50 + bytes(1_000_000),
        "1000000 values",
    ),
    "eleven million keys": (
        b"\xdf" + (11_000_000).to_bytes(4, "big") + b"\xa1k\xc0" * 11_000_000,
        "1000000 v",
    ),
    "more keys than a report has": (
        msgpack.packb({str(i): 0 for i in range(50_001)}),
        "more than 50000 keys",
    ),
    "a text of 60 megabytes": (msgpack.packb({"options": {"x" * 60_000_000: 1}}), "text of 60000000 bytes"),
    "nested": (b"\x91" * 100 + b"\xc0", "nested too deeply"),
    "an extension": (msgpack.packb(msgpack.ExtType(5, b"x" * 300)), "an extension type"),
    "a time": (b"\xd6\xff\x00\x00\x00\x01", "an extension type"),
    "a map that is not there": (b"\xdf\xff\xff\xff\xff", "4294967295 exceeds what follows"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_anything_is_built(name: str) -> None:
    payload, text = BOMBS[name]
    tracemalloc.start()
    with pytest.raises(WireError, match=text):
        wire.unpack(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_the_walk_pauses_so_that_others_can_be_answered() -> None:
    payload = msgpack.packb({"data": [[0] * 100] * 9_000})
    assert sum(1 for _ in outline.walk(payload)) == 909_003 // 10_000


def test_a_frame_as_nested_lists_and_ten_thousand_arrays_still_fit() -> None:
    frame = {"data": {"video.image": [[[[7] * 3] * 256] * 256]}}
    assert wire.unpack(msgpack.packb(frame)) == frame
