"""Which object was picked up that the task does not speak of: a policy that does not read takes any.

Success alone cannot tell a policy that grasps badly from one that reaches for the wrong thing. An object
counts as lifted once its origin is `LIFT` above where it came to rest before the first action: higher than an
object gets by being pushed or toppled, lower than any container that it could be carried into.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gr00t.libero.expert.scene import Array, Scene

# Metres.
LIFT = 0.04


def unnamed_objects(scene: Scene) -> list[str]:
    """Movable objects that no goal of the task speaks of, neither by name nor by a region of theirs."""
    named: set[str | None] = set()
    for _, *arguments in scene.goals():
        named |= {name if scene.is_object(name) else scene.parent_of(name) for name in arguments}
    return [name for name in scene.objects if scene.is_movable(name) and name not in named]


class Lifted(NamedTuple):
    """What a `LiftWatch` knows: where wrong objects rested, and the first one that was lifted."""

    rest: Array
    first: str | None


class LiftWatch:
    """Remembers the first wrong object that is lifted in an episode.

    Args:
        scene: Of the open task.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._names = unnamed_objects(scene)
        self._rest = self._heights()
        self._first: str | None = None

    def begin(self) -> None:
        """An episode begins: the objects lie where they are now."""
        self._rest = self._heights()
        self._first = None

    def look(self) -> str | None:
        """The first wrong object that was lifted since `begin`, None so far; to be asked after every step."""
        if self._first is None and self._names:
            risen = self._heights() - self._rest
            if risen.max() >= LIFT:
                self._first = self._names[int(risen.argmax())]
        return self._first

    def remembered(self) -> Lifted:
        """What it knows of the episode so far."""
        return Lifted(self._rest, self._first)

    def remember(self, lifted: Lifted) -> None:
        """Know what it knew at another moment."""
        self._rest, self._first = lifted

    def _heights(self) -> Array:
        return np.array([self._scene.object_position(name)[2] for name in self._names])
