"""What the simulator finds: the light robot, and GL libraries, each tried in a child."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gr00t.cli.checks.check import Check, split_advice
from gr00t.files.private_folder import CacheError
from gr00t.libero.assets.location import cache_folder
from gr00t.libero.assets.robot_meshes import RobotMeshesError, robot_meshes_folder, triangle_counts
from gr00t.libero.assets.standins.folder import write_standins
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.rendering import FULL, Rendering
from gr00t.libero.simulator.simulator import LiberoSimulator, SimulatorError
from gr00t.libero.tasks.suites import LiberoError, find_suite, libero_package, load_tasks

BACKENDS = ("osmesa", "egl")
# A control step with two images: 20 to 35 ms with the light robot on two quiet cores, 60 to 90 in full.
SLOW_MS = 150.0


def check_light_robot(environ: Mapping[str, str]) -> Check:
    """Whether the light meshes are made already."""
    try:
        folder = robot_meshes_folder(cache_folder(environ))
    except (RobotMeshesError, CacheError) as error:
        return Check("light robot", "missing", *split_advice(error))
    counts = triangle_counts(folder)
    if counts is None:
        return Check("light robot", "missing", "made by the first run that draws it, in about 10 s")
    return Check("light robot", "ok", f"{counts[1]:,} of {counts[0]:,} triangles, in {folder}")


def check_backend(name: str, environ: Mapping[str, str], light: bool, steps: int = 8) -> Check:
    """Play a few steps of a real task with the stand-ins, two images each, in a process of its own."""
    label = f"gl: {name}"
    rendering = Rendering.parse("fast") if light else FULL
    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        try:
            backend = choose_backend(name, environ)
            child = simulator_environ(environ, backend=backend, package=libero_package())
            task = load_tasks(find_suite("libero_object"), libero_package())[0]
            assets = write_standins(cache_folder(environ))
            log = Path(scratch) / "simulator.log"
            simulator = SimulatorProcess(assets, child, log, rendering=rendering, timeout_s=120.0)
        except (LiberoError, OSError) as error:
            return Check(label, "missing", *split_advice(error))
        try:
            simulator.open_task(task, seed=0)
            simulator.run(LiberoSimulator.start_episode, 0)
            played = [simulator.run(LiberoSimulator.execute, np.zeros((1, 7))) for _ in range(steps)]
            memory = simulator.memory_mib()
        except (LiberoError, SimulatorError) as error:
            return Check(label, "missing", str(error).replace(f" (log: {log})", ""))
        finally:
            simulator.close()
    seconds = [progress.step_seconds + progress.render_seconds for progress in played]
    views = [progress.observation.image for progress in played if progress.observation is not None]
    if min(float(view.std()) for view in views) < 1.0:
        return Check(label, "missing", "draws blank images")
    milliseconds = 1000 * statistics.median(seconds)
    detail = f"{milliseconds:.0f} ms per step with two images ({rendering.label}), {memory:.0f} MB of memory"
    return Check(label, "ok" if milliseconds < SLOW_MS else "slow", detail)
