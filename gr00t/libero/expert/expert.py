"""The scripted expert: reads a task's goals and fulfils them one after the other, with privileged state.

It proves that scenes and predicates are right (they can be solved), bounds from above what a policy can
reach, and, with noise on its actions, is a second arm of known handicap for the evaluation itself. It also
makes demonstrations.

A goal is a predicate with its arguments; the table below says which skill fulfils it. Skills look at the
scene themselves, so an attempt that failed is simply followed by another.

`ScriptedExpert` plays on from any state of an episode that somebody else has played so far, with anything in
the hand: made anew at a control step, it decides by what the simulator shows then.

    expert = ScriptedExpert(Scene(env))  # LIBERO's `ControlEnv`; a `LiberoSimulator` has it as `env`
    while not env.check_success():
        env.step(expert.act())

`ScriptedExpert(Scene(env)).act()` alone is what the expert would do now.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gr00t.libero.expert.doors import close
from gr00t.libero.expert.fixtures import open_drawer, turn_on
from gr00t.libero.expert.motion import OPEN, Action, Skill, hold, settle
from gr00t.libero.expert.putting import put_inside, put_onto
from gr00t.libero.expert.scene import Array, Scene

ATTEMPTS = 3
# Noise on rotations is scaled down: a full unit of command turns the hand by half a radian.
NOISE_SCALE = np.array([1.0, 1.0, 1.0, 0.3, 0.3, 0.3])

# Predicate -> skill, called with the scene and the predicate's arguments.
SKILLS: dict[str, Callable[..., Skill]] = {
    "in": put_inside,
    "on": put_onto,
    "open": open_drawer,
    "close": close,
    "turnon": turn_on,
}


def plan(scene: Scene) -> Skill:
    """Actions that fulfil the goals of the scene's task; a goal without a skill is left as it is.

    Returns:
        Whether all goals hold in the end. The caller may stop asking before.
    """
    yield from settle(scene)
    for _ in range(ATTEMPTS):
        # What is to be shut in the end has something put into it first; shut without, it would be in the way.
        for goal in sorted(scene.goals(), key=lambda goal: goal[0] == "close"):
            others = [other for other in scene.goals() if other[0] != "close"]
            if goal[0] == "close" and not all(scene.holds(other) for other in others):
                break
            skill = SKILLS.get(goal[0])
            if skill is not None and not scene.holds(goal):
                yield from skill(scene, *goal[1:])
        # LIBERO asks for contact.
        yield from settle(scene)
        if all(scene.holds(goal) for goal in scene.goals()):
            return (yield from hold(scene, OPEN, 6))
    return False


class ScriptedExpert:
    """Plays on from the state that an environment is in, whatever it is.

    Args:
        scene: Of the running environment. What the expert remembers is what it has tried itself; who moved
            the robot by other actions than the expert's makes a new one.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._plan = plan(scene)

    def act(self) -> Action:
        """The next action, (7,), for what the simulator shows now; a plan that has ended begins anew."""
        action = next(self._plan, None)
        if action is None:
            self._plan = plan(self._scene)
            action = next(self._plan)
        return action


def disturbed(action: Action, noise: float, random: np.random.Generator) -> Array:
    """The action as a clumsy expert executes it: Gaussian noise on its six motion commands, within limits.

    Args:
        action: What the expert means to do, (7,).
        noise: Standard deviation for translations, in units of the command.
        random: Where the noise comes from.
    """
    executed = action.copy()
    if noise:
        executed[:6] += random.normal(0.0, noise, 6) * NOISE_SCALE
    return np.clip(executed, -1.0, 1.0)
