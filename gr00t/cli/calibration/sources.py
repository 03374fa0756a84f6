"""Where the observations of a calibration come from: a file, rollouts in LIBERO, or a random generator."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from gr00t.cli.errors import UsageError
from gr00t.serving.observation_file import EPISODE, read_observations

if TYPE_CHECKING:
    from gr00t.eval.rollout.collect import Collection
    from gr00t.model.policy import Gr00tPolicy

logger = logging.getLogger("gr00t.calibrate")


class ObservationSource(Protocol):
    """Where observations come from. Making one checks what can be checked without the policy."""

    def gather(self, policy: Gr00tPolicy) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        """Return the observations, and what calibration.json says of them."""


@dataclasses.dataclass
class FileSource:
    """Observations from a file."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UsageError(f"--observations {self.path}: no such file")

    def gather(self, policy: Gr00tPolicy) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        """See `ObservationSource`."""
        return read_observations(self.path), {"kind": f"file {self.path.name}"}


@dataclasses.dataclass
class SyntheticSource:
    """Random observations."""

    count: int
    prompts: tuple[str, ...]
    seed: int

    def gather(self, policy: Gr00tPolicy) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        """See `ObservationSource`."""
        logger.warning(
            "SYNTHETIC observations: a smoke test. Do not evaluate or ship what is calibrated by them."
        )
        return self._draw(policy), {"kind": "synthetic, a smoke test"}

    def _draw(self, policy: Gr00tPolicy) -> Iterator[dict[str, Any]]:
        from gr00t.testing.synthetic import synthetic_observation

        for index in range(self.count):
            prompt = self.prompts[index % len(self.prompts)]
            seed = request_seed(self.seed, index)
            yield synthetic_observation(policy.modality_config, policy.metadata, prompt, seed)


class LiberoSource:
    """Observations from rollouts of the unquantized policy."""

    def __init__(
        self,
        suite: str,
        requests: int,
        environ: Mapping[str, str],
        *,
        tasks: str,
        seed: int,
        max_steps: int | None,
        replan_steps: int,
        assets: str,
        gl: str,
    ) -> None:
        from gr00t.libero.assets.location import resolve_assets
        from gr00t.libero.simulator.environ import choose_backend, simulator_environ
        from gr00t.libero.tasks.suites import find_suite, libero_package, load_tasks, parse_task_indices

        self.requests = requests
        self.suite = find_suite(suite)
        indices = parse_task_indices(tasks, self.suite)
        package = libero_package()
        all_tasks = load_tasks(self.suite, package, environ)
        self.tasks = [all_tasks[index] for index in indices]
        self.protocol = {
            "seed": seed,
            "max_steps": self.suite.max_steps if max_steps is None else max_steps,
            "replan_steps": replan_steps,
        }
        if min(self.protocol["max_steps"], replan_steps) < 1:
            raise UsageError("--max-steps and --replan-steps: expected at least 1")
        backend = choose_backend(gl, environ)
        self.assets = resolve_assets(self.suite, package=package, environ=environ, choice=assets)
        self.environ = simulator_environ(environ, backend=backend, package=package)

    def gather(self, policy: Gr00tPolicy) -> tuple[Iterable[dict[str, Any]], dict[str, Any]]:
        """See `ObservationSource`."""
        collection, rendering = self.play(policy, self.requests)
        played = sorted({state for states in collection.init_states.values() for state in states})
        logger.info(
            "%s: observations from %d tasks, initial states %s; evaluations start at 0: keep their --trials "
            "at most %d",
            self.suite.name,
            len(collection.init_states),
            ", ".join(map(str, played)),
            played[0],
        )
        facts = {
            "kind": f"rollouts in {self.suite.name}",
            "suite": self.suite.name,
            "init_states_by_task": {str(task): found for task, found in collection.init_states.items()},
            "assets": self.assets.kind,
            "assets_fingerprint": self.assets.fingerprint,
            "rendering": rendering,
            **self.protocol,
        }
        both = zip(collection.observations, collection.episodes, strict=True)
        return [{**observation, EPISODE: episode} for observation, episode in both], facts

    def play(
        self, policy: Gr00tPolicy, requests: int, *, placement: str = "recorded", to_judge: bool = False
    ) -> tuple[Collection, str]:
        """Return what the policy meets when it acts, as `collect_observations` does, and how it was drawn."""
        from gr00t.eval.rollout.collect import collect_observations
        from gr00t.libero.simulator.process import SimulatorProcess
        from gr00t.libero.simulator.rendering import choose_rendering

        # As an evaluation draws by default: scales belong to the images that a policy will see.
        rendering = choose_rendering("auto", self.assets.kind)
        scratch = Path(tempfile.mkdtemp(prefix="calibrate-"))
        with progress("rollouts", requests) as bar:
            log = scratch / "simulator.log"
            simulator = SimulatorProcess(self.assets.path, self.environ, log, rendering=rendering)
            try:
                collection = collect_observations(
                    simulator,
                    PolicyInProcess(policy),
                    self.tasks,
                    requests,
                    **self.protocol,
                    placement=placement,
                    to_judge=to_judge,
                    on_episode=bar.update,
                )
            finally:
                simulator.close()
        shutil.rmtree(scratch, ignore_errors=True)  # after an error, which names the log, it stays
        return collection, rendering.label


class PolicyInProcess(NamedTuple):
    """A policy of this process, asked as a server would be."""

    policy: Gr00tPolicy

    def get_action(self, observations: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
        """See `gr00t.eval.rollout.episode.PolicyClient`."""
        return self.policy.get_action(observations, seeds=seed)


def request_seed(seed: int, index: int) -> int:
    """The seed of request `index`, in [0, 2^32)."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def progress(what: str, total: int, unit: str = "request") -> tqdm:
    """A progress bar over requests, or other units, on stderr."""
    return tqdm(total=total, desc=what, unit=unit)
