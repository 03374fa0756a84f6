"""Conversions between representations of a rotation, through the matrix.

Conventions are those that GR00T's data uses: quaternions have the real part first and, as results, a
non-negative one; rotation_6d is the first two rows of the matrix (Zhou et al., arXiv 1812.07035); Euler
angles are intrinsic, so `euler_angles_rpy` is `R_x(a) R_y(b) R_z(c)`; axis_angle is the axis times the angle
in [0, pi].
"""

from __future__ import annotations

import torch
from torch import Tensor

from gr00t.data.schema import RotationType

_AXES = {"r": 0, "p": 1, "y": 2}
# Lengths and sines below this are zero; a matrix may be as far from orthogonal as one rounded by hand.
_SMALLEST = 1e-6
_FARTHEST = 0.05
WIDTH = {"axis_angle": 3, "quaternion": 4, "rotation_6d": 6, "matrix": 9, "euler_angles": 3}


def rotation_family(rotation: RotationType) -> str:
    """Return the representation without its Euler convention: `euler_angles` for all six of them."""
    return "euler_angles" if rotation.value.startswith("euler_angles") else rotation.value


def rotation_width(rotation: RotationType) -> int:
    """Return how many numbers the representation takes."""
    return WIDTH[rotation_family(rotation)]


def convert_rotation(x: Tensor, source: RotationType, target: RotationType) -> Tensor:
    """Convert rotations x (..., width of source) to (..., width of target).

    Raises:
        ValueError: the last dimension of x is not the width of the source representation.
    """
    if x.shape[-1] != rotation_width(source):
        raise ValueError(
            f"a rotation given as {source.value} has {rotation_width(source)} numbers, got {x.shape[-1]}"
        )
    return _from_matrix(_to_matrix(x, source), target)


def no_rotation(x: Tensor, source: RotationType) -> str | None:
    """Say why one of x (..., A) is no rotation, which no conversion would show; None if all are."""
    width = rotation_width(source)
    if x.shape[-1] != width:
        return f"a rotation as {source.value} has {width} numbers, got {x.shape[-1]}"
    wrong, told = wrong_rotations(x, source)
    if not wrong.any():
        return None
    where = wrong.nonzero()[0].tolist()
    return f"{told} is no rotation as {source.value}, at {where}: {x[tuple(where)].tolist()}"


def wrong_rotations(x: Tensor, source: RotationType) -> tuple[Tensor, str]:
    """Which of x (..., width of source) are no rotation, (...) bool, and what they are instead.

    Rounded numbers are taken: conversions make unit quaternions, and right angles of rotation_6d.
    """
    if source is RotationType.QUATERNION:
        return x.norm(dim=-1) < _SMALLEST, "a quaternion of zeros"
    if source is RotationType.MATRIX:
        rows = x.unflatten(-1, (3, 3))
        unit = torch.eye(3, dtype=x.dtype, device=x.device)
        skewed = (rows @ rows.mT - unit).abs().amax(dim=(-2, -1)) > _FARTHEST
        told = "a matrix whose rows are not of length 1, at right angles and right-handed"
        return skewed | (torch.linalg.det(rows) < 0), told
    if source is RotationType.ROTATION_6D:
        first, second = x[..., :3], x[..., 3:]
        lengths = (first.norm(dim=-1) * second.norm(dim=-1)).clamp(min=_SMALLEST)
        across = torch.linalg.cross(first, second).norm(dim=-1)
        return across < _SMALLEST * lengths, "two rows of zeros, or along one line"
    return torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device), ""


def _to_matrix(x: Tensor, rotation: RotationType) -> Tensor:
    """Return (..., 3, 3) for x (..., width)."""
    if rotation is RotationType.MATRIX:
        return x.unflatten(-1, (3, 3))
    if rotation is RotationType.AXIS_ANGLE:
        angle = x.norm(dim=-1, keepdim=True)
        # sinc keeps sin(a/2)/a finite at zero: sin(a/2)/a = sinc(a/2pi)/2.
        return _quaternion_to_matrix(
            torch.cat([torch.cos(angle / 2), x * torch.sinc(angle / (2 * torch.pi)) / 2], -1)
        )
    if rotation is RotationType.QUATERNION:
        return _quaternion_to_matrix(x)
    if rotation is RotationType.ROTATION_6D:
        first = torch.nn.functional.normalize(x[..., :3], dim=-1)
        second = x[..., 3:] - (first * x[..., 3:]).sum(-1, keepdim=True) * first
        second = torch.nn.functional.normalize(second, dim=-1)
        return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)
    i, j, k = _euler_axes(rotation)
    return _axis_rotation(x[..., 0], i) @ _axis_rotation(x[..., 1], j) @ _axis_rotation(x[..., 2], k)


def _from_matrix(matrix: Tensor, rotation: RotationType) -> Tensor:
    """Return (..., width) for matrix (..., 3, 3)."""
    if rotation is RotationType.MATRIX:
        return matrix.flatten(-2)
    if rotation is RotationType.ROTATION_6D:
        return matrix[..., :2, :].flatten(-2)
    if rotation is RotationType.QUATERNION:
        return _matrix_to_quaternion(matrix)
    if rotation is RotationType.AXIS_ANGLE:
        quaternion = _matrix_to_quaternion(matrix)
        sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
        half = torch.atan2(sine, quaternion[..., :1])
        return quaternion[..., 1:] * 2 / torch.sinc(half / torch.pi)
    i, j, k = _euler_axes(rotation)
    # R = R_i(a) R_j(b) R_k(c) with three different axes; sign is that of the permutation (i, j, k).
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    middle = torch.asin((sign * matrix[..., i, k]).clamp(-1.0, 1.0))
    first = torch.atan2(-sign * matrix[..., j, k], matrix[..., k, k])
    last = torch.atan2(-sign * matrix[..., i, j], matrix[..., i, i])
    return torch.stack([first, middle, last], dim=-1)


def _euler_axes(rotation: RotationType) -> tuple[int, int, int]:
    letters = rotation.value.removeprefix("euler_angles_")
    return _AXES[letters[0]], _AXES[letters[1]], _AXES[letters[2]]


def _axis_rotation(angle: Tensor, axis: int) -> Tensor:
    """Return the rotations (..., 3, 3) by `angle` (...) around one coordinate axis."""
    j, k = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.zeros(*angle.shape, 3, 3, dtype=angle.dtype, device=angle.device)
    matrix[..., axis, axis] = 1.0
    matrix[..., j, j] = matrix[..., k, k] = torch.cos(angle)
    matrix[..., k, j] = torch.sin(angle)
    matrix[..., j, k] = -torch.sin(angle)
    return matrix


def _quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Return (..., 3, 3) for quaternions (..., 4) of any non-zero length."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Return unit quaternions (..., 4), real part first and not negative."""
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    # Row i is 4 q_i q: all four are the same quaternion; the longest one is the best conditioned.
    rows = [
        [1 + m[0][0] + m[1][1] + m[2][2], m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]],
        [m[2][1] - m[1][2], 1 + m[0][0] - m[1][1] - m[2][2], m[1][0] + m[0][1], m[0][2] + m[2][0]],
        [m[0][2] - m[2][0], m[1][0] + m[0][1], 1 - m[0][0] + m[1][1] - m[2][2], m[2][1] + m[1][2]],
        [m[1][0] - m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2], 1 - m[0][0] - m[1][1] + m[2][2]],
    ]
    candidates = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = candidates.norm(dim=-1).argmax(dim=-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
