"""Where every object of LIBERO comes to rest under the benchmark's MuJoCo, and what differs from that.

The table resting_poses.npz was recorded by `scripts/libero_doctor.py --settle all --record`: 50 initial
states of each of the 40 tasks, under the MuJoCo of `mujoco_version`. It holds 0.1 mm and 0.01 degrees in 16
bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gr00t.libero.settled.settling import Rest

TABLE = Path(__file__).with_name("resting_poses.npz")
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")

# What counts as the same, in metres and degrees. On an emulated Intel Haswell the bowl of libero_spatial's
# task 5 came to rest 0.1 mm from where the AMD EPYC that recorded the table has it; the smallest of the
# differences that MuJoCo 3.8.1 makes and this finds is 3 mm.
SAME_PLACE = 2e-3
SAME_TILT = 2.0
_METRES, _DEGREES = 1e-4, 1e-2
_UNITS = np.array([_METRES, _METRES, _METRES, _DEGREES, _METRES])

Poses = dict[tuple[str, int], dict[str, Rest]]


class Difference(NamedTuple):
    """An object that does not come to rest as it should.

    Attributes:
        name: Of the object.
        states: The initial states from which it does not.
        distance: The farthest that it lies from its place, metres.
        tilt: The most that it is tilted otherwise, degrees.
        drift: The farthest that it still moves after an evaluation has begun, beyond what it should, metres.
    """

    name: str
    states: tuple[int, ...]
    distance: float
    tilt: float
    drift: float

    def __str__(self) -> str:
        """The difference for people."""
        return (
            f"{self.name}, {len(self.states)} initial states: {1000 * self.distance:.1f} mm from its place, "
            f"tilt off by {self.tilt:.1f} degrees, {1000 * self.drift:.1f} mm to go when an evaluation begins"
        )


def differences(
    found: Mapping[str, Rest], expected: Mapping[str, Rest], init_states: Sequence[int]
) -> list[Difference]:
    """Compare how the objects of a task came to rest.

    Args:
        found: From each of `init_states`, by object.
        expected: From every recorded state, by object.
        init_states: Which of them were tried.

    Raises:
        ValueError: the objects are others.
    """
    if found.keys() != expected.keys():
        raise ValueError(f"the task has the objects {sorted(found)}, expected {sorted(expected)}")
    differing = []
    for name, rest in found.items():
        due = Rest(*(values[list(init_states)] for values in expected[name]))
        distance = np.linalg.norm(rest.position - due.position, axis=1)
        tilt = np.abs(rest.tilt - due.tilt)
        drift = np.maximum(rest.drift - due.drift, 0.0)
        # Not "larger": what is no number is no resting place.
        same = (distance <= SAME_PLACE) & (tilt <= SAME_TILT) & (drift <= SAME_PLACE)
        if not same.all():
            states = tuple(state for state, is_same in zip(init_states, same, strict=True) if not is_same)
            worst = (float(values.max()) for values in (distance, tilt, drift))
            differing.append(Difference(name, states, *worst))
    return differing


def read_poses(path: Path = TABLE) -> Poses:
    """Read the table: how every object comes to rest, by suite and task."""
    poses: Poses = {}
    with np.load(path, allow_pickle=False) as file:
        for label, rows in zip(file["labels"], file["poses"] * _UNITS, strict=True):
            suite, task, name = str(label).split("/")
            rest = Rest(rows[:, :3], rows[:, 3], rows[:, 4])
            poses.setdefault((suite, int(task)), {})[name] = rest
    return poses


def write_poses(poses: Poses, path: Path = TABLE) -> None:
    """Write the table that `read_poses` reads.

    Raises:
        ValueError: an object lies more than 3.2 m away.
    """
    rows = {
        f"{suite}/{task}/{name}": np.column_stack(rest)
        for (suite, task), objects in poses.items()
        for name, rest in objects.items()
    }
    stored = np.round(np.array(list(rows.values())) / _UNITS)
    if np.abs(stored).max() > np.iinfo(np.int16).max:
        raise ValueError("an object lies outside what the table can hold, 3.2 m")
    np.savez_compressed(path, labels=np.array(list(rows)), poses=stored.astype(np.int16))
