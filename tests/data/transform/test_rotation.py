"""Rotations. Oracle: the matrix exponential of the axis-angle vector; the definitions of the other forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gr00t.data.errors import MetadataError, ObservationError
from gr00t.data.schema import RotationType
from gr00t.data.transform.concat import ConcatTransform
from gr00t.data.transform.rotation import convert_rotation, rotation_width
from gr00t.data.transform.state_action import StateActionTransform
from tests.data.recorded import Recorded

EULER = [rotation for rotation in RotationType if rotation.value.startswith("euler")]


def exponential(vector: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) of axis-angle vectors (N, 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(
        torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    )


@pytest.fixture
def vectors() -> Tensor:
    """Random axis-angle vectors with angles up to pi, with the zero and two half turns among them."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.nn.functional.normalize(
        torch.randn(200, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    angles = torch.rand(200, 1, generator=generator, dtype=torch.float64) * math.pi
    special = torch.tensor(
        [[0, 0, 0], [math.pi, 0, 0], [0, 0, math.pi - 1e-6], [1e-9, 0, 0]], dtype=torch.float64
    )
    return torch.cat([axes * angles, special])


def test_axis_angle_equals_the_matrix_exponential(vectors: Tensor) -> None:
    matrix = convert_rotation(vectors, RotationType.AXIS_ANGLE, RotationType.MATRIX)
    assert (matrix.unflatten(-1, (3, 3)) - exponential(vectors)).abs().max() < 1e-13  # measured 2e-15


def test_quaternion_is_real_first_with_half_the_angle() -> None:
    turn = torch.tensor([[0.0, 0.0, math.pi / 2]], dtype=torch.float64)
    quaternion = convert_rotation(turn, RotationType.AXIS_ANGLE, RotationType.QUATERNION)
    half = math.sqrt(0.5)
    assert torch.allclose(quaternion, torch.tensor([[half, 0, 0, half]], dtype=torch.float64), atol=1e-15)


def test_rotation_6d_is_the_first_two_rows(vectors: Tensor) -> None:
    six = convert_rotation(vectors, RotationType.AXIS_ANGLE, RotationType.ROTATION_6D)
    assert (six - exponential(vectors)[:, :2].flatten(1)).abs().max() < 1e-13


@pytest.mark.parametrize("euler", EULER, ids=lambda rotation: rotation.value[-3:])
def test_euler_angles_multiply_rotations_about_the_named_axes(euler: RotationType) -> None:
    angles = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64)
    expected = torch.eye(3, dtype=torch.float64)
    for letter, angle in zip(euler.value[-3:], angles[0], strict=True):
        axis = torch.zeros(1, 3, dtype=torch.float64)
        axis[0, "rpy".index(letter)] = angle
        expected = expected @ exponential(axis)[0]
    matrix = convert_rotation(angles, euler, RotationType.MATRIX)
    assert (matrix.unflatten(-1, (3, 3))[0] - expected).abs().max() < 1e-15


@pytest.mark.parametrize("target", RotationType, ids=lambda rotation: rotation.value)
def test_there_and_back_is_the_same_rotation(vectors: Tensor, target: RotationType) -> None:
    there = convert_rotation(vectors, RotationType.AXIS_ANGLE, target)
    assert there.shape == (len(vectors), rotation_width(target))
    back = convert_rotation(there, target, RotationType.AXIS_ANGLE)
    # Compared as matrices: at half a turn the axis has two signs. Measured 1e-13 (Euler near its singularity:
    # 1e-8).
    assert (exponential(back) - exponential(vectors)).abs().max() < 1e-7


def test_axis_angle_and_matrix_agree_in_float32(vectors: Tensor) -> None:
    there = convert_rotation(vectors.float(), RotationType.AXIS_ANGLE, RotationType.ROTATION_6D)
    assert there.dtype == torch.float32
    assert (there.double() - exponential(vectors)[:, :2].flatten(1)).abs().max() < 2e-6  # measured 5e-7


def test_a_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="quaternion has 4 numbers, got 3"):
        convert_rotation(torch.zeros(1, 3), RotationType.QUATERNION, RotationType.MATRIX)


def test_a_rotation_target_widens_the_state_and_is_undone(recorded: Recorded) -> None:
    metadata = recorded.metadata()
    rotation = metadata.modalities.state["x"].model_copy(
        update={"shape": (4,), "rotation_type": "quaternion"}
    )
    rotation.rotation_type = RotationType.QUATERNION
    metadata.modalities.state["x"] = rotation
    transform = StateActionTransform(
        apply_to=["state.x"],
        normalization_modes={"state.x": "min_max"},
        target_rotations={"state.x": "rotation_6d"},
    )
    concat = ConcatTransform(video_concat_order=[], state_concat_order=["state.x", "state.y"])
    concat.set_transform_pipeline([transform, concat])
    for step in (transform, concat):
        step.set_metadata(metadata)
    quaternion = torch.tensor([[[0.5, 0.5, -0.5, 0.5]]])
    data = transform.apply({"state.x": quaternion, "state.y": torch.zeros(1, 1, 1)})
    joined = concat.apply(data)
    assert joined["state"].shape == (1, 1, 7)  # bounds -1 and 1 leave rotation_6d as it is
    split = transform.unapply(concat.unapply(joined))
    assert torch.allclose(split["state.x"], quaternion, atol=1e-6)


def test_a_relative_rotation_cannot_be_normalized(recorded: Recorded) -> None:
    metadata = recorded.metadata()
    metadata.modalities.state["x"].rotation_type = RotationType.QUATERNION
    metadata.modalities.state["x"].shape = (4,)
    metadata.modalities.state["x"].absolute = False
    transform = StateActionTransform(
        apply_to=["state.x"],
        normalization_modes={"state.x": "min_max"},
        target_rotations={"state.x": "rotation_6d"},
    )
    with pytest.raises(MetadataError, match=r"state.x: a rotation converted to rotation_6d"):
        transform.set_metadata(metadata)


@pytest.mark.parametrize(
    ("source", "numbers", "message"),
    [
        ("quaternion", [0, 0, 0, 0], "a quaternion of zeros is no rotation as quaternion, at"),
        ("quaternion", [1, 0, 0], "a rotation as quaternion has 4 numbers, got 3"),
        ("rotation_6d", [0, 0, 0, 0, 1, 0], "two rows of zeros, or along one line is no rotation"),
        ("rotation_6d", [1, 2, 3, -2, -4, -6], "two rows of zeros, or along one line is no rotation"),
        ("matrix", [1, 0, 0, 0, 1, 0, 0, 0, -1], "at right angles and right-handed is no rotation as matrix"),
        ("matrix", [1, 0, 0, 0.3, 1, 0, 0, 0, 1], "at right angles and right-handed is no rotation"),
        ("matrix", [0] * 9, "is no rotation as matrix"),
        ("rotation_6d", [2, 0, 0, 0.3, 0.1, 0], None),
        ("matrix", [0.71, -0.71, 0, 0.71, 0.71, 0, 0, 0, 1], None),
        ("quaternion", [-2, 0.1, 0, 0], None),
        ("axis_angle", [0, 0, 0], None),
    ],
)
def test_numbers_that_are_no_rotation_are_refused_with_their_key(
    recorded: Recorded, source: str, numbers: list[float], message: str | None
) -> None:
    metadata = recorded.metadata()
    metadata.modalities.state["x"].rotation_type = RotationType(source)
    metadata.modalities.state["x"].shape = (rotation_width(RotationType(source)),)
    transform = StateActionTransform(
        apply_to=["state.x"], target_rotations={"state.x": "euler_angles_rpy"}, training=False
    )
    transform.set_metadata(metadata)
    good = {"quaternion": [1, 0, 0, 0], "rotation_6d": [1, 0, 0, 0, 1, 0], "axis_angle": [0, 0, 1]}
    first = good.get(source, [1, 0, 0, 0, 1, 0, 0, 0, 1])[: len(numbers)]
    value = torch.tensor([[first], [numbers]], dtype=torch.float32)
    if message is None:
        assert torch.isfinite(transform({"state.x": value})["state.x"]).all()
        return
    with pytest.raises(ObservationError, match=f"state.x: .*{message}") as refused:
        transform({"state.x": value})
    assert "got 3" in str(refused.value) or "at [1, 0]: [" in str(refused.value)


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"state.x: target rotation 'rotation6d': did you mean rotation_6d"):
        StateActionTransform(apply_to=["state.x"], target_rotations={"state.x": "rotation6d"})
