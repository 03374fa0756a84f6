"""What no robot sends. Oracle: the error's text, and the memory that it does not cost."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from gr00t.data.errors import ObservationError
from gr00t.data.observation import prepare_observation
from tests.data.recorded import INSTRUCTION, PARITY, Recorded, libero_config


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded.load(PARITY / "pre_a.json")


def prepare(recorded: Recorded, **changed: Any) -> Any:
    observation = {**recorded.single(0), **changed}
    return prepare_observation(observation, libero_config().modality_config(), recorded.metadata())


@pytest.mark.parametrize(
    "value",
    [
        1e30,
        -1e38,
        1e300,
        2.0e6 * 40,
        np.finfo(np.float32).max,
        float(np.finfo(np.float64).max),
        2**62,
        -(2**63),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_a_state_far_beyond_everything_in_training_is_named(
    recorded: Recorded, value: float, as_list: bool
) -> None:
    state = [[0.0, value]] if as_list else np.array([[0, value]])
    text = r"state.gripper: \S+ at \[0, 1\] cannot be a state of this robot; in training it was between"
    with pytest.raises(ObservationError, match=text):
        prepare(recorded, **{"state.gripper": state})


@pytest.mark.parametrize("side", [1, 3])
def test_frames_of_which_a_crop_would_leave_nothing_are_refused(recorded: Recorded, side: int) -> None:
    with pytest.raises(ObservationError, match=rf"video.image: frames of {side}x{side} pixels .* at least 4"):
        prepare(recorded, **{"video.image": np.zeros((1, side, side, 3), np.uint8)})


@pytest.mark.filterwarnings("error")
def test_a_state_of_half_precision_is_compared_without_overflow(recorded: Recorded) -> None:
    prepared, _ = prepare(recorded, **{"state.x": np.array([[60_000]], np.float16)})
    assert prepared["state.x"].item() == 60_000


@pytest.mark.parametrize("value", [1000.0, -5e4, 1e-300])
def test_a_state_outside_of_training_is_let_through(recorded: Recorded, value: float) -> None:
    prepared, _ = prepare(recorded, **{"state.x": np.array([[value]])})
    assert prepared["state.x"].item() == value


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (INSTRUCTION, ["x" * 100_000], f"{INSTRUCTION}: an instruction of 100000 characters; at most 2000"),
        (INSTRUCTION, "x" * 2_001, f"{INSTRUCTION}: an instruction of 2001 characters; at most 2000"),
        (INSTRUCTION, np.array(["x" * 3_000]), f"{INSTRUCTION}: an instruction of 3000 characters"),
        (INSTRUCTION, ["a"] * 900_000, f"{INSTRUCTION}: expected one instruction, got 900000"),
        (INSTRUCTION, [[["a", "b"]]], f"{INSTRUCTION}: expected one instruction, got 2"),
        (INSTRUCTION, np.full(1_000_000, "a"), f"{INSTRUCTION}: expected one instruction, got 1000000"),
        # As an array these would take 8 GB: every text as long as the longest.
        (INSTRUCTION, ["x" * 60_000] + ["a"] * 30_000, f"{INSTRUCTION}: expected one instruction, got 30001"),
        ("state.x", ["x" * 60_000] + ["a"] * 30_000, "state.x: expected an array of numbers, got list"),
        ("state.x", [[[1.0], ["x" * 60_000]]], "state.x: expected an array of numbers, got list"),
        ("state.x", [b"a"] * 30_000, "state.x: expected an array of numbers, got list"),
        ("state.x", np.full((1, 30_000), "a"), "state.x: expected an array of numbers, got dtype <U1"),
        ("state.x", np.zeros(2_000_000, np.uint8), "state.x: expected a state, got 2000000 numbers"),
    ],
    ids=range(12),
)
def test_too_much_is_refused_without_building_it(recorded: Recorded, key: str, value: Any, text: str) -> None:
    tracemalloc.start()
    with pytest.raises(ObservationError) as caught:
        prepare(recorded, **{key: value})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(text)
    assert len(str(caught.value)) < 400
    assert peak < 10_000_000


def test_many_or_long_names_are_not_echoed(recorded: Recorded) -> None:
    with pytest.raises(ObservationError, match="an observation of 310 keys; at most 256 are accepted"):
        prepare(recorded, **{f"x{number}": 1 for number in range(300)})
    observation = {f"{number}" + "k" * 60_000: 1 for number in range(100)}
    with pytest.raises(ObservationError, match="and 80 more") as caught:
        prepare_observation(observation, libero_config().modality_config(), recorded.metadata())
    assert len(str(caught.value)) < 4_000
