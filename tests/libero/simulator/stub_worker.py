"""The simulator's real process without MuJoCo: a module of its name stands in."""

import sys
import types

mujoco = types.ModuleType("mujoco")
mujoco.GLContext = lambda width, height: types.SimpleNamespace(free=lambda: None)  # type: ignore[attr-defined]
sys.modules["mujoco"] = mujoco

from gr00t.libero.simulator import worker  # noqa: E402

worker.main()
