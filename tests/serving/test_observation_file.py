"""Oracle: the wire itself; a file is nothing but its messages, and says where it is broken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.serving.observation_file import ObservationFileError, read_observations, write_observations
from gr00t.serving.wires import n1_5 as wire


def observation(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return {
        "video.image": rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8),
        "state.x": rng.normal(size=(1, 1)),
        "annotation.human.action.task_description": [f"do {number}"],
    }


def file_of(path: Path, count: int) -> bytes:
    assert write_observations(path, map(observation, range(count))) == count
    return path.read_bytes()


def test_a_file_is_the_concatenation_of_the_wires_messages(tmp_path):
    content = file_of(tmp_path / "observations", 3)
    assert content == b"".join(wire.pack(observation(number)) for number in range(3))
    (tmp_path / "twice").write_bytes(content * 2)
    found = list(read_observations(tmp_path / "twice"))
    assert len(found) == 6
    for number, values in enumerate(found):
        expected = observation(number % 3)
        assert values.keys() == expected.keys()
        assert values["video.image"].dtype == np.uint8
        np.testing.assert_array_equal(values["video.image"], expected["video.image"])
        assert values["state.x"] == expected["state.x"]
        assert values["annotation.human.action.task_description"] == [f"do {number % 3}"]


def test_reading_is_streaming(tmp_path):
    """The broken tail of a file is not looked at before its time."""
    (tmp_path / "observations").write_bytes(file_of(tmp_path / "whole", 2) + b"\xc1")
    reader = read_observations(tmp_path / "observations")
    assert next(reader)["state.x"] == observation(0)["state.x"]
    assert next(reader)["state.x"] == observation(1)["state.x"]
    with pytest.raises(ObservationFileError, match="after 2 whole observations: not a msgpack message"):
        next(reader)


@pytest.mark.parametrize("kept", [1, 5000, -1])
def test_a_truncated_file_says_after_how_many_observations(tmp_path, kept):
    path = tmp_path / "observations"
    one = len(wire.pack(observation(0)))
    content = file_of(path, 2)
    path.write_bytes(content[:kept] if kept < 0 else content[: one + kept])
    expected = f"{path}: after 1 whole observations: the file ends within the next one; it was cut off"
    with pytest.raises(ObservationFileError, match=f"^{re.escape(expected)}$"):
        list(read_observations(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "after 0 whole observations: expected an observation (a map of keys), got a int"),
        (
            wire.pack([1, 2]),
            "after 0 whole observations: expected an observation (a map of keys), got a list",
        ),
        (
            wire.pack({"x": {"__ndarray_class__": True, "as_npy": b"no"}}),
            "after 0 whole observations: x: array: as_npy does not begin like a .npy file",
        ),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "observations"
    path.write_bytes(content)
    with pytest.raises(ObservationFileError) as caught:
        list(read_observations(path))
    assert str(caught.value) == f"{path}: {message}"


def test_an_oversized_observation_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("gr00t.serving.observation_file.MAX_OBSERVATION_BYTES", 8000)
    file_of(tmp_path / "observations", 1)
    with pytest.raises(ObservationFileError, match="the next one is larger than 8000 bytes"):
        list(read_observations(tmp_path / "observations"))


def test_an_empty_file_has_no_observations(tmp_path):
    (tmp_path / "observations").touch()
    assert list(read_observations(tmp_path / "observations")) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "observations"
    old = file_of(path, 1)
    with pytest.raises(TypeError, match="can not serialize 'object' object"):
        write_observations(path, [observation(1), {"state.x": object()}])
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_rewritten_from_itself(tmp_path):
    path = tmp_path / "observations"
    old = file_of(path, 3)
    assert write_observations(path, read_observations(path)) == 3
    assert path.read_bytes() == old
