"""What small messages cost that declare much. Oracle: a message's bytes bound its time and memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest

from examples.Libero.custom_data_config import LiberoDataConfig
from gr00t.serving.harnesses.robots import robot_of
from gr00t.serving.wires import json_arrays, n1_5, n1_6
from gr00t.serving.wires.array_maps import (
    encode_msgpack_numpy,
    encode_openpi,
    encode_vla_eval,
    read_either,
    read_openpi,
    read_vla_eval,
)
from gr00t.serving.wires.outline import WireError

Decode = Callable[[bytes], Any]
SIZES = 20_000  # whose product has 1.3 million binary digits
BIG = 2**63 - 1
# Wire -> how it writes an array of a shape, and how it reads it.
ARRAYS: dict[str, tuple[Callable[[list[int]], bytes], Decode]] = {
    "openpi": (
        lambda shape: msgpack.packb(
            {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": shape}, use_bin_type=True
        ),
        lambda sent: n1_5.decode(sent, read_openpi),
    ),
    "vla-eval": (
        lambda shape: msgpack.packb({"__ndarray__": True, "data": b"", "dtype": "<f4", "shape": shape}),
        lambda sent: n1_5.decode(sent, read_vla_eval),
    ),
    "n1_6": (
        lambda shape: msgpack.packb({b"nd": True, b"type": "<f4", b"shape": shape, b"data": b""}),
        lambda sent: n1_5.decode(sent, read_either),
    ),
    "http": (
        lambda shape: json.dumps({"__numpy__": "", "dtype": "<f4", "shape": shape}).encode(),
        json_arrays.loads,
    ),
}


@pytest.mark.parametrize("wire", ARRAYS)
def test_the_product_of_many_sizes_is_not_computed(wire: str) -> None:
    write, decode = ARRAYS[wire]
    sent = write([BIG] * SIZES)
    started = time.process_time()
    with pytest.raises(WireError, match=f"array: {SIZES} dimensions; at most 32 are accepted"):
        decode(sent)
    assert time.process_time() - started < 0.3
    assert decode(write([0] * 32)).shape == (0,) * 32


# As texts of one array they take 65536 x 4 bytes each: 262 MB.
TEXTS = ["x" * 65_536, *[""] * 1_000]


def test_texts_of_different_lengths_are_no_array_of_n1_6() -> None:
    sent = msgpack.packb({"video": {}, "language": {"task": [[text] for text in TEXTS]}})
    with pytest.raises(WireError, match="task: 1001 texts of up to 65536 characters"):
        _within_10_mb(lambda: n1_6.read_observation(sent))


def test_texts_are_no_state() -> None:
    robot = robot_of(LiberoDataConfig().modality_config())
    image = np.zeros((8, 8, 3), np.uint8)
    told = {"observation/image": image, "observation/wrist_image": image, "observation/state": TEXTS}
    with pytest.raises(ValueError, match="observation/state: expected an array of numbers, got list"):
        _within_10_mb(lambda: robot.from_openpi({**told, "prompt": "x"}))


def _within_10_mb(call: Callable[[], Any]) -> None:
    tracemalloc.start()
    try:
        call()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10_000_000


def test_three_ways_to_write_an_array() -> None:
    """Oracle: the packers of openpi-client 0.1.2, vla-eval 0.8.0 and msgpack-numpy, key by key."""
    array = np.array([[1.5, -2.0]], "<f4")
    parts = {"data": array.tobytes(), "dtype": "<f4", "shape": [1, 2]}
    written = [encode(array) for encode in (encode_vla_eval, encode_openpi, encode_msgpack_numpy)]
    assert [list(fields.items()) for fields in written] == [
        [("__ndarray__", True), *parts.items()],
        [(b"__ndarray__", True), *((name.encode(), part) for name, part in parts.items())],
        [(b"nd", True), (b"type", "<f4"), (b"kind", b""), (b"shape", [1, 2]), (b"data", array.tobytes())],
    ]
    with pytest.raises(TypeError, match="can not serialize an array of <U1"):
        encode_openpi(np.array("a"))
