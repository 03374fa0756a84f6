"""The simulator in a process of its own.

A crash inside OpenGL or MuJoCo takes its process along, and an evaluation must survive that and not count it
against the robot. So the simulator runs as a child, is spoken to over pipes (one pickled message per chunk of
actions), and is replaced when it dies or falls silent. The child gets its own environment variables, which
keeps the parent's untouched, and its chatter goes to a log file.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import hashlib
import json
import logging
import os
import pickle
import re
import selectors
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gr00t.files.cached_folder import put_file
from gr00t.files.private_folder import private_folder
from gr00t.libero.assets.location import cache_folder
from gr00t.libero.assets.robot_meshes import write_robot_meshes
from gr00t.libero.datagen.demonstrations import Recording
from gr00t.libero.datagen.labelled_scenes import LabelledScenes
from gr00t.libero.simulator.egl_device import drawing_environ
from gr00t.libero.simulator.libero_import import numba_environ
from gr00t.libero.simulator.mujoco_version import warn_of_other_mujoco
from gr00t.libero.simulator.rendering import FULL, Rendering
from gr00t.libero.simulator.settling import Rest
from gr00t.libero.simulator.simulator import ExpertEpisode, Progress, SimulatorError
from gr00t.libero.tasks.suites import LiberoError, Task
from gr00t.processes import lifeline
from gr00t.spelling import did_you_mean

logger = logging.getLogger(__name__)

# Library to look for, and the Debian packages that bring it.
_BACKENDS = {
    "osmesa": ("OSMesa", "libosmesa6"),
    "egl": ("EGL", "libegl1 libegl-mesa0 libgl1-mesa-dri"),
}


class SimulatorStartError(LiberoError):
    """The simulator cannot run on this machine at all."""


def choose_backend(requested: str, environ: Mapping[str, str]) -> str:
    """The GL library to draw with: `requested`, else MUJOCO_GL where it works without a screen, else osmesa.

    Raises:
        LiberoError: for an unknown name.
        SimulatorStartError: if the library is not installed, with the command that installs it.
    """
    name = requested if requested != "auto" else environ.get("MUJOCO_GL", "").lower()
    if requested == "auto" and name not in _BACKENDS:
        name = "osmesa"
    if name not in _BACKENDS:
        raise LiberoError(f"unknown GL backend {name!r}: {did_you_mean(name, _BACKENDS)}")
    library, packages = _BACKENDS[name]
    if ctypes.util.find_library(library) is None:
        raise SimulatorStartError(f"lib{library} is missing; run: apt-get install -y {packages}")
    return name


def simulator_environ(environ: Mapping[str, str], *, backend: str, package: Path) -> dict[str, str]:
    """`environ` plus what a process needs before it imports mujoco, robosuite and LIBERO.

    LIBERO asks on stdin for its folders unless a configuration file names them: one is written into our
    cache, so that no file of the user is read or changed.

    Args:
        environ: The variables to start from; not changed.
        backend: `osmesa` or `egl`.
        package: Folder of the installed `libero.libero`.

    Raises:
        LiberoError: MUJOCO_EGL_DEVICE_ID names no device that can be drawn with.
        CacheError: the cache cannot be written, or is somebody else's.
    """
    key = hashlib.sha256(str(package).encode()).hexdigest()[:12]
    config = private_folder(environ, "libero", f"config-{key}", is_verified=True)
    folders = {
        "assets": "assets",
        "bddl_files": "bddl_files",
        "benchmark_root": ".",
        "datasets": "../datasets",
        "init_states": "init_files",
    }
    # A JSON string is a YAML string, whatever characters the path holds.
    text = "".join(f"{key}: {json.dumps(str(package / folder))}\n" for key, folder in folders.items())
    put_file(config / "config.yaml", text.encode())
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(part for part in (root, environ.get("PYTHONPATH", "")) if part)
    return {
        **drawing_environ(environ, backend),
        **numba_environ(environ),
        "MUJOCO_GL": backend,
        "PYOPENGL_PLATFORM": backend,
        "LIBERO_CONFIG_PATH": str(config),
        "MPLCONFIGDIR": environ.get("MPLCONFIGDIR") or str(private_folder(environ, "libero", "matplotlib")),
        "PYTHONPATH": path,
    }


class SimulatorProcess:
    """`LiberoSimulator` with the same methods, elsewhere; started on first use, replaced after a failure.

    Args:
        assets: Assets folder, complete for the tasks to come.
        environ: The child's variables, from `simulator_environ`.
        log_path: Receives what the child and its libraries print.
        timeout_s: The longest that one request may take. The first one of a fresh installation compiles for
            some seconds.
        image_size: Side of the square images.
        rendering: How the scenes are drawn. The first light one of an installation makes the robot's light
            meshes in the cache that `environ` names, which takes some seconds.
    """

    def __init__(
        self,
        assets: Path,
        environ: Mapping[str, str],
        log_path: Path,
        *,
        timeout_s: float = 300.0,
        image_size: int = 256,
        rendering: Rendering = FULL,
    ) -> None:
        self._assets = assets.resolve()
        self._environ = dict(environ)
        self._log_path = log_path
        self._timeout_s = timeout_s
        self._image_size = image_size
        self._rendering = rendering
        self._child: subprocess.Popen[bytes] | None = None
        self.versions: dict[str, str] = {}

    def open_task(self, task: Task, seed: int, placement: str = "recorded") -> int:
        """See `LiberoSimulator.open_task`; starts the process if need be.

        Raises:
            SimulatorStartError: if the process does not come up.
            SimulatorError: if it ends or does not answer.
        """
        self.start()
        count: int = self._call("open_task", task, seed, placement)
        return count

    def start_episode(self, init_state: int) -> Progress:
        """See `LiberoSimulator.start_episode`."""
        progress: Progress = self._call("start_episode", init_state)
        return progress

    def run(self, actions: NDArray[np.float64], record_every: int = 0) -> Progress:
        """See `LiberoSimulator.run`."""
        progress: Progress = self._call("run", actions, record_every)
        return progress

    def play_expert(
        self, init_state: int, max_steps: int, noise: float = 0.0, seed: int = 0, record_every: int = 0
    ) -> ExpertEpisode:
        """See `LiberoSimulator.play_expert`; what it tells on every step stays in its own process."""
        episode: ExpertEpisode = self._call("play_expert", init_state, max_steps, noise, seed, record_every)
        return episode

    def demonstrate(
        self, init_state: int, max_steps: int, level: float, seed: int, size: int
    ) -> Recording | None:
        """See `gr00t.libero.datagen.demonstrations.demonstrate`."""
        recording: Recording | None = self._call("demonstrate", init_state, max_steps, level, seed, size)
        return recording

    def sample_scenes(
        self, kinds: Sequence[str], init_states: Sequence[int], count: int, seed: Sequence[int], size: int
    ) -> LabelledScenes:
        """See `gr00t.libero.datagen.labelled_scenes.sample_scenes`."""
        scenes: LabelledScenes = self._call("sample_scenes", kinds, init_states, count, seed, size)
        return scenes

    def settle(self, init_states: Sequence[int]) -> dict[str, Rest]:
        """See `gr00t.libero.simulator.settling.settle`."""
        rests: dict[str, Rest] = self._call("settle", init_states)
        return rests

    def view(self) -> NDArray[np.uint8]:
        """See `LiberoSimulator.view`."""
        image: NDArray[np.uint8] = self._call("view")
        return image

    def positions(self) -> NDArray[np.float64]:
        """See `LiberoSimulator.positions`."""
        positions: NDArray[np.float64] = self._call("positions")
        return positions

    def memory_mib(self) -> float:
        """What the process holds in memory, in MiB; 0.0 if it does not run or the system does not tell."""
        if self._child is None:
            return 0.0
        try:
            status = Path(f"/proc/{self._child.pid}/status").read_text()
        except OSError:
            return 0.0
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def kill(self) -> None:
        """End the process at once, from another thread; who waits for its answer gets a SimulatorError."""
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the process, by force if it does not go by itself."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()  # the end of its input is its signal to leave
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()

    def start(self) -> None:
        """Start the process if it does not run, and learn the versions of what it imports.

        Raises:
            SimulatorStartError: if it does not come up, with its last words.
            RobotMeshesError: if the light robot cannot be made.
        """
        if self._child is not None:
            return
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        meshes = write_robot_meshes(cache_folder(self._environ)) if self._rendering.light_robot else ""
        command = [*lifeline.command(), "-m", "gr00t.libero.simulator.worker", str(self._assets)]
        command += [str(self._image_size), "msaa" if self._rendering.msaa else "", str(meshes)]
        with self._log_path.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environ,
                # MuJoCo appends its warnings to a file in the current folder, wherever that is.
                cwd=self._log_path.parent,
                # Ctrl-C belongs to the evaluation, which closes this process in order.
                start_new_session=True,
            )
        try:
            self.versions = self._receive("start")
        except SimulatorError as error:
            raise SimulatorStartError(f"the simulator does not start: {error}") from None
        warn_of_other_mujoco(self.versions["mujoco"])

    def _call(self, method: str, *arguments: Any) -> Any:
        if self._child is None or self._child.stdin is None:
            raise SimulatorError("the simulator is not running")
        try:
            pickle.dump((method, arguments), self._child.stdin)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._failure(method) from None
        return self._receive(method)

    def _receive(self, method: str) -> Any:
        assert self._child is not None
        assert self._child.stdout is not None
        stream: IO[bytes] = self._child.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(self._timeout_s):
                self._child.kill()
                raise self._failure(method, f"no answer within {self._timeout_s:g} s")
        try:
            return pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            raise self._failure(method) from None

    def _failure(self, method: str, reason: str = "") -> SimulatorError:
        """Collect the dead child's status and last words."""
        assert self._child is not None
        try:
            status = self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            status = self._child.wait()
        if not reason:
            reason = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        self.close()
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return SimulatorError(f"simulator process, {method}: {reason}{said} (log: {self._log_path})")
