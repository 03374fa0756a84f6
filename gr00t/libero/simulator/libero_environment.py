"""LIBERO's environment, imported, reset and stepped without what does harm or takes time for nothing.

A control step of robosuite's looks at the scene three times per physics step: before each of its 25 physics
steps it calls `mj_forward`, its controller calls it again, and `mj_step` starts with a third one, all from
the same positions and velocities. What follows from these alone (collisions, inertias, Jacobians) is computed
once in `computed_once`: `mj_step1`. Forces are computed all three times, because in MuJoCo 3.3 each
computation of them starts from the result of the one before (`qacc_warmstart`): leaving one out changes
positions by up to 7e-8 within 35 control steps. So the results are the same bit for bit.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gr00t.libero.assets.variants import register_variants
from gr00t.libero.tasks.suites import LiberoError


def environment_class(assets: Path) -> Any:
    """LIBERO's `ControlEnv`, which will read its meshes and textures from `assets`.

    Raises:
        LiberoError: if robosuite is not installed.
    """
    quiet_robosuite()
    libero = importlib.import_module("libero.libero")
    vars(libero)["_assets_path_cache"] = str(assets)
    environment = importlib.import_module("libero.libero.envs.env_wrapper").ControlEnv
    register_variants()
    return environment


def quiet_robosuite() -> None:
    """Import robosuite, if nobody has, without its log file and its advice.

    It opens a file of a fixed name in a folder that all users share, and advises on stderr. Its settings
    module decides that and has no dependencies, so it can be loaded and changed before the package.

    Raises:
        LiberoError: it is not installed.
    """
    if "robosuite" in sys.modules:
        return
    package = importlib.util.find_spec("robosuite")
    if package is None or not package.submodule_search_locations:
        raise LiberoError("robosuite is not installed; run: scripts/setup_env.sh libero")
    path = Path(package.submodule_search_locations[0]) / "macros.py"
    spec = importlib.util.spec_from_file_location("robosuite.macros", path)
    assert spec is not None
    assert spec.loader is not None
    macros = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    vars(macros).update(FILE_LOGGING_LEVEL=None, CONSOLE_LOGGING_LEVEL="ERROR")
    sys.modules["robosuite.macros"] = macros
    vars(importlib.import_module("robosuite"))["macros"] = macros


def reset(env: Any) -> None:
    """Reset LIBERO's inner environment, again when its objects found no place.

    The wrapper's own loop around this swallows every error, a missing mesh or broken GL too, and never ends.
    """
    no_place = importlib.import_module("robosuite.utils.errors").RandomizationError
    while True:
        try:
            env.reset()
        except no_place:
            continue
        return


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
