"""How the simulators of a run are made, as plain data: it travels to other processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from gr00t.libero.assets.location import Assets, cache_folder, resolve_assets
from gr00t.libero.assets.robot_meshes import write_robot_meshes
from gr00t.libero.simulator.environ import choose_backend, simulator_environ
from gr00t.libero.simulator.pool import SimulatorPool
from gr00t.libero.simulator.process import SimulatorProcess
from gr00t.libero.simulator.rendering import Rendering, choose_rendering
from gr00t.libero.tasks.suites import LiberoError, Suite, libero_package


@dataclass(frozen=True)
class SimulatorSetup:
    """What a simulator needs, as asked for; the properties find it on the machine where they are read.

    Attributes:
        suite: Whose assets have to be complete.
        assets: See `resolve_assets`.
        gl: `auto`, `osmesa` or `egl`.
        rendering: `auto`, `full`, `light` or `fast`.
        environ: The environment variables.
        logs: Folder of the simulators' logs.
        fingerprint: Of the assets, where they must be those of another machine.
    """

    suite: Suite
    assets: str
    gl: str
    rendering: str
    environ: Mapping[str, str]
    logs: Path
    fingerprint: str | None = None

    @cached_property
    def found_assets(self) -> Assets:
        """The assets.

        Raises:
            AssetsError: none are usable.
            LiberoError: they are others than `fingerprint`'s.
        """
        found = resolve_assets(self.suite, package=libero_package(), environ=self.environ, choice=self.assets)
        if self.fingerprint not in (None, found.fingerprint):
            raise LiberoError(
                f"the assets of this machine ({found}, {found.fingerprint}) are not those of the run "
                f"({self.fingerprint})"
            )
        return found

    @cached_property
    def backend(self) -> str:
        """The library to draw with."""
        return choose_backend(self.gl, self.environ)

    @property
    def found_rendering(self) -> Rendering:
        """How images are drawn."""
        return choose_rendering(self.rendering, self.found_assets.kind)

    def elsewhere(self) -> SimulatorSetup:
        """The same for another machine, which has to find the same assets."""
        return replace(self, fingerprint=self.found_assets.fingerprint, rendering=self.found_rendering.label)

    def prepare(self) -> None:
        """Make now what simulators share, lest each of them makes it."""
        if self.found_rendering.light_robot:
            write_robot_meshes(cache_folder(self.environ))

    def make(self, number: int | str) -> SimulatorProcess:
        """Simulator `number`, not started yet."""
        return SimulatorProcess(
            self.found_assets.path,
            simulator_environ(self.environ, backend=self.backend, package=libero_package()),
            self.logs / f"{number}.log",
            rendering=self.found_rendering,
        )

    def pool(self, size: int) -> SimulatorPool:
        """As many simulators, not started yet, with all that they share made."""
        self.prepare()
        return SimulatorPool([self.make(number) for number in range(size)])
