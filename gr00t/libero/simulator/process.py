"""The simulator in a process of its own, which runs the functions that it is sent.

A crash inside OpenGL or MuJoCo takes its process along, and an evaluation must survive that and not count it
against the robot. So the simulator runs as a child, and is replaced when it dies or falls silent. Requests
and answers are pickles over its standard input and output: pipes whose other ends nobody else holds. The
child gets its own environment variables, which keeps the parent's untouched, and what it prints goes to a log
file.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from gr00t.libero.assets.location import cache_folder
from gr00t.libero.assets.robot_meshes import write_robot_meshes
from gr00t.libero.simulator.environ import SimulatorStartError
from gr00t.libero.simulator.mujoco_version import warn_of_other_mujoco
from gr00t.libero.simulator.rendering import FULL, Rendering
from gr00t.libero.simulator.simulator import LiberoSimulator, SimulatorError
from gr00t.libero.tasks.suites import Task
from gr00t.processes import watchdog

P = ParamSpec("P")
Result = TypeVar("Result")


class SimulatorProcess:
    """A `LiberoSimulator` in a process of its own, which `open_task` starts, again after a failure.

    Args:
        assets: Assets folder, complete for the tasks to come.
        environ: The child's variables, from `simulator_environ`.
        log_path: Receives what the child and its libraries print.
        timeout_s: The longest that one request may take, with its answer. The first one of a fresh
            installation compiles for some seconds.
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
        return self.run(LiberoSimulator.open_task, task, seed, placement)

    def run(
        self,
        function: Callable[Concatenate[LiberoSimulator, P], Result],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result:
        """Return what `function(simulator, *args, **kwargs)` returns in the process, for its `simulator`.

        Args:
            function: A method of `LiberoSimulator`, or a function of any module that this program can
                import. It is sent by its name, and imported there.
            args: Sent as pickles, as is the answer.
            kwargs: The same.

        Raises:
            TypeError: the function or an argument cannot be sent.
            SimulatorError: the process does not run, ends or does not answer. What the function raises ends
                it, and is quoted.
        """
        name = getattr(function, "__name__", repr(function))
        if self._child is None:
            raise SimulatorError("the simulator is not running")
        result: Result = self._exchange(_packed(function, args, kwargs), name)
        return result

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
        meshes = write_robot_meshes(cache_folder(self._environ)) if self._rendering.light_robot else None
        command = [*watchdog.command(), "-m", "gr00t.libero.simulator.worker"]
        # The functions that it will be sent stand where this program finds them.
        search_path = [os.path.abspath(entry) for entry in sys.path]
        simulator = partial(LiberoSimulator, self._assets, self._image_size, self._rendering, meshes)
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
            self.versions = self._exchange(pickle.dumps((search_path, simulator)), "start")
        except SimulatorError as error:
            raise SimulatorStartError(f"the simulator does not start: {error}") from None
        warn_of_other_mujoco(self.versions["mujoco"])

    def _exchange(self, message: bytes, request: str) -> Any:
        """Send a request and return its answer, both within the time of one request."""
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            child.kill()  # which ends the waiting below, also for a child that stopped in mid-answer

        timer = threading.Timer(self._timeout_s, give_up)
        timer.start()
        ended = False
        try:
            child.stdin.write(message)
            child.stdin.flush()
            answer = pickle.load(child.stdout)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            ended = True
        finally:
            timer.cancel()
            timer.join()  # from here on it kills nobody
        if ended or late.is_set():
            raise self._failure(request, f"no answer within {self._timeout_s:g} s" if late.is_set() else "")
        return answer

    def _failure(self, request: str, reason: str = "") -> SimulatorError:
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
        return SimulatorError(f"simulator process, {request}: {reason}{said} (log: {self._log_path})")


def _packed(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """A request for the process, whole before its first byte is sent.

    Raises:
        TypeError: something of it cannot be sent.
    """
    name = getattr(function, "__qualname__", repr(function))
    module = getattr(function, "__module__", None)
    if "<" in name or module == "__main__":
        raise TypeError(
            f"{name} of {module} cannot be run in the simulator's process, which imports what it runs by its "
            "name: expected a function at the top level of a module that is not the program itself"
        )
    try:
        return pickle.dumps((function, args, kwargs))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"{name} and its arguments cannot be sent to the simulator's process: {error}"
        ) from error
