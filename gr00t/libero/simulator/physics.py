"""A control step that looks at the scene once per physics step, where robosuite does so three times.

Before each of its 25 physics steps robosuite calls `mj_forward`, its controller calls it again, and `mj_step`
starts with a third one, all from the same positions and velocities. What follows from these alone
(collisions, inertias, Jacobians) is computed once: `mj_step1`. Forces are computed all three times, because
in MuJoCo 3.3 each computation of them starts from the result of the one before (`qacc_warmstart`): leaving
one out changes positions by up to 7e-8 within 35 control steps. So the results are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def computed_once(sim: Any) -> Iterator[None]:
    """Within the context, `sim` looks at the scene once for all that robosuite asks of it between two steps.

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
        mujoco.mj_forwardSkip(model, data, mujoco.mjtStage.mjSTAGE_VEL, 1)

    def step(with_udd: bool = True) -> None:
        nonlocal computed
        if not computed:
            mujoco.mj_step1(model, data)
        mujoco.mj_step2(model, data)
        computed = False

    sim.forward, sim.step = forward, step
    try:
        yield
    finally:
        del sim.forward, sim.step
