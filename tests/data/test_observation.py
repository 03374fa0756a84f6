"""What clients send. Oracle: the error's text, which names the key, what was expected and what was got."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gr00t.data.errors import ObservationError
from gr00t.data.observation import prepare_observation
from tests.data.recorded import INSTRUCTION, Recorded, libero_config

DELETE = object()


def prepare(recorded: Recorded, observation: Any) -> tuple[dict[str, Any], bool]:
    return prepare_observation(observation, libero_config().modality_config(), recorded.metadata())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("state.x", DELETE, "no 'state.x' in the observation, which has .*state.gripper"),
        ("video.wrist_image", DELETE, "no 'video.wrist_image' in the observation, which has video.image"),
        ("state.x", np.array([[np.nan]]), r"state.x: expected finite numbers, got nan at \[0, 0\]"),
        (
            "state.gripper",
            np.array([[1, np.inf]]),
            r"state.gripper: expected finite numbers, got inf at \[0, 1\]",
        ),
        ("state.gripper", np.zeros((1, 3)), r"state.gripper: expected shape \(1, 2\), got \(1, 3\)"),
        ("state.gripper", np.zeros((2, 2)), r"state.gripper: expected shape \(1, 2\), got \(2, 2\)"),
        ("state.gripper", np.zeros(()), r"state.gripper: expected shape \(1, 2\), got \(\)"),
        ("state.gripper", 0.1, r"state.gripper: expected shape \(1, 2\), got \(\)"),
        ("state.x", np.zeros((1, 1, 1)), r"state.x: expected shape \(1, 1\), got \(1, 1, 1\)"),
        ("state.x", "0.1", "state.x: expected an array of numbers, got str"),
        ("state.x", np.zeros((1, 1), complex), "state.x: expected an array of numbers, got dtype complex128"),
        ("state.x", [[1], [2, 3]], "state.x: expected an array, got lists of different lengths"),
        ("state.x", None, "state.x: expected an array of numbers, got NoneType"),
        ("video.image", "frames.png", "video.image: expected an array of numbers, got str"),
        ("video.image", [["a"]], "video.image: expected an array of numbers, got list"),
        ("video.image", b"\xff\xd8\xff", "video.image: expected an array of numbers, got bytes"),
        ("video.image", {"a": 1}, "video.image: expected an array of numbers, got dict"),
        ("video.image", np.array([None]), r"video.image: expected shape \(T, H, W, 3\) .* got dtype object"),
        ("video.image", np.zeros((256, 256), np.uint8), r"\(T, H, W, 3\) or .* got \(256, 256\)"),
        ("video.image", np.zeros((1, 0, 256, 3), np.uint8), r"\(T, H, W, 3\) or .* got \(1, 0, 256, 3\)"),
        ("video.image", [[[[0, 1, 300]]]], "video.image: expected pixels from 0 to 255, got 0 to 300"),
        ("video.image", [[[[-1, 1, 3]]]], "video.image: expected pixels from 0 to 255, got -1 to 3"),
        (
            "video.image",
            np.zeros((2, 256, 256, 3), np.uint8),
            r"video.image: expected shape \(1, H, W, 3\), got \(2",
        ),
        (
            "video.image",
            np.zeros((1, 1, 256, 256, 3), np.uint8),
            r"video.image: expected shape \(1, H, W, 3\)",
        ),
        (INSTRUCTION, ["a", "b"], f"{INSTRUCTION}: expected one instruction, got 2"),
        (INSTRUCTION, [], f"{INSTRUCTION}: expected text, got list"),
        (INSTRUCTION, 5, f"{INSTRUCTION}: expected text, got int"),
        (INSTRUCTION, [b"bytes"], f"{INSTRUCTION}: expected text, got list"),
        (INSTRUCTION, None, f"{INSTRUCTION}: expected text, got NoneType"),
    ],
)
def test_a_wrong_value_is_named(recorded: Recorded, key: str, value: Any, message: str) -> None:
    observation = recorded.single(0)
    if value is DELETE:
        del observation[key]
    else:
        observation[key] = value
    with pytest.raises(ObservationError, match=message):
        prepare(recorded, observation)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("state.x", np.zeros((2, 1, 1)), "expected a batch of 2 like state.x, got 3"),
        (
            "video.image",
            np.zeros((2, 1, 256, 256, 3), np.uint8),
            "video.image: expected a batch of 3 like state.x, got 2",
        ),
        (
            "video.image",
            np.zeros((1, 256, 256, 3), np.uint8),
            r"video.image: expected shape \(B, 1, H, W, 3\)",
        ),
        (INSTRUCTION, ["a", "b"], f"{INSTRUCTION}: expected 3 instructions, one per sample"),
        (INSTRUCTION, "one for all", f"{INSTRUCTION}: expected 3 instructions, one per sample, got 1$"),
        (INSTRUCTION, [["a", "b"], ["c", "d"]], f"{INSTRUCTION}: expected 3 .* one per sample, got 4$"),
        (INSTRUCTION, np.array(["a", "b", "c\ud800"]), f"{INSTRUCTION}: an instruction has half a character"),
    ],
)
def test_a_batch_that_does_not_fit_together_is_named(
    recorded: Recorded, key: str, value: Any, message: str
) -> None:
    observation = {**recorded.observation(), INSTRUCTION: recorded.info["prompts"], key: value}
    with pytest.raises(ObservationError, match=message):
        prepare(recorded, observation)


def test_a_misspelt_key_is_recognised_among_the_ones_nobody_needs(recorded: Recorded) -> None:
    observation = recorded.single(0)
    observation["state.X"] = observation.pop("state.x")
    with pytest.raises(ObservationError, match=r"no 'state.x' .*; did you mean state.X\?$"):
        prepare(recorded, observation)


@pytest.mark.parametrize(
    "nest", [lambda flat: {"video": flat, "state": flat}, lambda flat: {"observation": flat, "options": None}]
)
def test_an_observation_of_a_later_isaac_gr00t_is_called_so(recorded: Recorded, nest: Any) -> None:
    with pytest.raises(
        ObservationError, match=r"observation of Isaac-GR00T N1\.6 or later: N1\.5 takes flat ones"
    ):
        prepare(recorded, nest(recorded.single(0)))


@pytest.mark.parametrize("observation", [None, [1, 2], "text", {}])
def test_not_an_observation_at_all(recorded: Recorded, observation: Any) -> None:
    with pytest.raises(
        ObservationError, match=r"expected a dict of arrays|no 'video.image' in the observation"
    ):
        prepare(recorded, observation)


def test_one_observation_gets_a_batch_dimension(recorded: Recorded) -> None:
    prepared, batched = prepare(recorded, recorded.single(0))
    assert not batched
    assert prepared["state.gripper"].shape == (1, 1, 2)
    assert prepared["video.image"].shape == (1, 1, 256, 256, 3)
    assert prepared[INSTRUCTION].shape == (1, 1)


class Image:
    """What an image library gives: numpy can read it, and nothing else is known of it."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.full((256, 256, 3), 7, np.uint8)


@pytest.mark.parametrize(
    "value",
    [
        np.full((1, 256, 256, 3), 7, np.uint8),
        np.full((256, 256, 3), 7, np.uint8),  # one time step may be left out
        [np.full((256, 256, 3), 7, np.uint8)],
        np.full((1, 256, 256, 3), 7).tolist(),
        torch.full((1, 256, 256, 3), 7, dtype=torch.uint8),
        Image(),
        [Image()],
    ],
    ids=range(7),
)
def test_frames_come_in_every_form_that_leaves_no_doubt(recorded: Recorded, value: Any) -> None:
    prepared, _ = prepare(recorded, {**recorded.single(0), "video.image": value})
    np.testing.assert_array_equal(
        prepared["video.image"], np.full((1, 1, 256, 256, 3), 7, np.uint8), strict=True
    )


@pytest.mark.parametrize(
    "value", [0.25, np.float32(0.25), np.array(0.25), np.array([0.25]), [[0.25]], torch.tensor([0.25])]
)
def test_a_number_is_a_state_of_one_number(recorded: Recorded, value: Any) -> None:
    prepared, _ = prepare(recorded, {**recorded.single(0), "state.x": value})
    assert prepared["state.x"].tolist() == [[[0.25]]]


def test_frames_of_another_shape_or_type_are_left_to_the_users_first_transform(recorded: Recorded) -> None:
    for value in (np.zeros((1, 224, 300, 3), np.uint8), np.zeros((1, 256, 256, 4)), np.zeros((1, 3, 99, 99))):
        prepared, _ = prepare(recorded, {**recorded.single(0), "video.image": value})
        assert prepared["video.image"].shape == (1, *value.shape)
        assert prepared["video.image"].dtype == value.dtype


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([[0.1, 0.2]], np.float64), np.float64),
        (np.array([[0.1, 0.2]], np.float32), np.float32),
        (np.array([0.1, 0.2]), np.float64),  # one time step may be left out
        ([[0.1, 0.2]], np.float64),
        (np.array([[1, 2]]), np.float64),
    ],
)
def test_precision_of_states_is_kept(recorded: Recorded, value: Any, dtype: type) -> None:
    prepared, _ = prepare(recorded, {**recorded.single(0), "state.gripper": value})
    assert prepared["state.gripper"].dtype == dtype
    assert prepared["state.gripper"].shape == (1, 1, 2)


def test_other_keys_are_ignored(recorded: Recorded) -> None:
    prepared, _ = prepare(
        recorded, {**recorded.single(0), "state.extra": "x", 5: None, "annotation.other": 1}
    )
    assert len(prepared) == len(recorded.single(0))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i4", ">f2"])
def test_numbers_of_the_other_byte_order_are_the_same_numbers(recorded: Recorded, dtype: str) -> None:
    state = np.array([[1, 2]], dtype)
    observation = {**recorded.observation(0), "state.gripper": state}
    prepared, _ = prepare(recorded, observation)
    assert torch.as_tensor(prepared["state.gripper"]).flatten().tolist() == [1, 2]
