"""A control step that computes the scene once per physics step, where robosuite computes it three times.

Before each of its 25 physics steps robosuite calls `mj_forward`, its controller calls it again, and `mj_step`
starts with a third one, all from the same positions and velocities. MuJoCo offers the two halves of a step:
`mj_step1` computes all that does not depend on the controls, `mj_step2` the rest (MuJoCo's documentation,
"Simulation loop"). With a controller called in between, the results are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def computed_once(sim: Any) -> Iterator[None]:
    """Within the context, `sim` computes once what robosuite asks of it repeatedly.

    Args:
        sim: robosuite's `MjSim`. Nobody may write positions or velocities within the context.

    Raises:
        ValueError: the model's integrator is Runge-Kutta's, whose step has no halves; LIBERO's is Euler's.
    """
    import mujoco

    model, data = sim.model._model, sim.data._data
    if model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
        raise ValueError("a step of the integrator mjINT_RK4 cannot be computed in halves; any other's can")
    computed = False

    def forward() -> None:
        nonlocal computed
        if not computed:
            mujoco.mj_step1(model, data)
            computed = True

    def step(with_udd: bool = True) -> None:
        nonlocal computed
        forward()
        mujoco.mj_step2(model, data)
        computed = False

    sim.forward, sim.step = forward, step
    try:
        yield
    finally:
        del sim.forward, sim.step
