"""The simulators of a run on a Ray cluster: the same function plays an episode, elsewhere.

Every node gets a number of simulators, each in an actor of its own, and, for a policy that the run starts
itself, one policy server, so that images stay on their node. Records, videos and thumbnails come back and are
kept by the one process that owns the run's folder. An actor that dies is replaced and its episode played once
more; if that fails too, the record says so.

The nodes share nothing but an installation at the same path; calibrated packs must lie where all of them can
read. Ray is imported when a cluster is asked for, and not before.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gr00t.eval.arms.facts import ServerDescription
from gr00t.eval.arms.hosts import StartedHost, identity
from gr00t.eval.arms.server_process import ServerProcess
from gr00t.eval.rollout.agents import Agent
from gr00t.eval.rollout.episode import Simulator
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.eval.rollout.player import Player, SimulatorSlot, describe_episode
from gr00t.eval.rollout.pool import JobBoard
from gr00t.eval.rollout.record_parts import ArmConditions
from gr00t.eval.rollout.run_folder import PlayedEpisode
from gr00t.libero.tasks.suites import LiberoError
from gr00t.serving.client import ExternalRobotInferenceClient

logger = logging.getLogger(__name__)

ENABLE = "pip install -e '.[cluster]' -c scripts/requirements/pins.txt"


class ClusterError(LiberoError):
    """There is no cluster to play on."""


class SlotActor:
    """What an actor holds: a simulator, and a player of the present arm."""

    def __init__(self, make_simulator: Callable[[str], Simulator], name: str) -> None:
        self._slot = SimulatorSlot(make_simulator(name))
        self._player: Player | None = None

    def begin(
        self, make_agent: Callable[[], Agent], plan: EvalPlan, arm: str, conditions: ArmConditions
    ) -> None:
        """Take up an arm."""
        if self._player is not None:
            self._player.close()
        self._player = Player(self._slot, make_agent(), plan, arm, conditions)

    def play(self, job: EpisodeJob) -> PlayedEpisode:
        """Play an episode; see `Player.play`."""
        assert self._player is not None
        return self._player.play(job)

    def task(self) -> int | None:
        """The task that the simulator has open."""
        return self._slot.task


class RayPool:
    """Simulators on the nodes of a Ray cluster.

    Args:
        address: Of the cluster; `local` starts one on this machine.
        make_simulator: Makes a simulator on its node, given a name.
        per_node: Simulators on each node.
        root: Folder of the installation, on all nodes.

    Raises:
        ClusterError: Ray is not installed, or no cluster answers.
    """

    def __init__(
        self, address: str, make_simulator: Callable[[str], Simulator], per_node: int, root: Path
    ) -> None:
        self._ray = start_ray(address, root)
        self._make_simulator = make_simulator
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        self.nodes = [node["NodeID"] for node in alive]
        self._gpus = {node["NodeID"]: node["Resources"].get("GPU", 0.0) for node in alive}
        places = [node for node in self.nodes for _ in range(per_node)]
        self._actors = [self._actor(node, index) for index, node in enumerate(places)]
        self._places = places
        logger.info("cluster    %d nodes, %d simulators", len(self.nodes), len(self._actors))

    def play(
        self,
        jobs: Sequence[EpisodeJob],
        make_agent: Callable[[], Agent],
        plan: EvalPlan,
        arm: str,
        conditions: ArmConditions,
    ) -> Generator[PlayedEpisode, None, None]:
        """See `gr00t.eval.rollout.pool.Pool`."""
        board = JobBoard(jobs)
        deaths: Counter[EpisodeJob] = Counter()
        at: dict[int, int | None] = dict.fromkeys(range(len(self._actors)))
        running: dict[Any, tuple[int, EpisodeJob]] = {}

        def begin(index: int) -> None:
            self._actors[index].begin.remote(make_agent, plan, arm, conditions)

        def go_on(index: int) -> None:
            job = board.take(index, at[index])
            if job is not None:
                at[index] = job.task.index
                running[self._actors[index].play.remote(job)] = (index, job)

        for index in at:
            begin(index)
            go_on(index)
        while running:
            (done, *_), _ = self._ray.wait(list(running), num_returns=1)
            index, job = running.pop(done)
            try:
                yield self._ray.get(done)
            except self._ray.exceptions.RayActorError as error:
                deaths[job] += 1
                logger.warning("%s: its process died: %s", job, error)
                self._actors[index] = self._actor(self._places[index], index)
                begin(index)
                if deaths[job] > 1:
                    yield describe_episode(
                        plan,
                        arm,
                        conditions,
                        job,
                        None,
                        error=f"its process died: {error}",
                        retried=True,
                        wall_seconds=0.0,
                    )
                else:
                    board.give_back(job)
            go_on(index)

    def start_servers(
        self, program: Sequence[str], environ: Mapping[str, str], log_path: Path, closing: ExitStack
    ) -> tuple[NodeHosts, ServerDescription]:
        """Start a policy server on every node; see `ServerProcess`.

        Args:
            program: Serves.
            environ: Its environment variables.
            log_path: Of the log on each node, whose name is added.
            closing: Ends them.

        Returns:
            How they are asked, and what one of them says of itself.

        Raises:
            ServerEndedError: one does not come up.
            ClusterError: they say different things of themselves.
        """
        servers = {}
        for node in self.nodes:
            gpus = min(1.0, self._gpus.get(node, 0.0))
            log = log_path.with_name(f"{log_path.stem}-{node[:8]}.log")
            servers[node] = on_node(self._ray, ServerActor, node, gpus).remote(program, environ, log)
            closing.callback(self._end_server, servers[node])
        answers = dict(
            zip(servers, self._ray.get([actor.start.remote() for actor in servers.values()]), strict=True)
        )
        first = answers[self.nodes[0]][1]
        for node, (_, described) in answers.items():
            if identity(described) != identity(first):
                raise ClusterError(f"the policy server of node {node[:8]} is not that of {self.nodes[0][:8]}")
        return NodeHosts(servers, {node: port for node, (port, _) in answers.items()}), first

    def close(self) -> None:
        """End the actors and with them the simulators."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()

    def _end_server(self, actor: Any) -> None:
        self._ray.get(actor.close.remote())
        self._ray.kill(actor)

    def _actor(self, node: str, index: int) -> Any:
        return on_node(self._ray, SlotActor, node).remote(self._make_simulator, f"{node[:8]}-{index}")


class ServerActor:
    """What an actor holds: the policy server of its node."""

    def __init__(
        self,
        program: Sequence[str],
        environ: Mapping[str, str],
        log_path: Path,
    ) -> None:
        import ray

        # Ray tells an actor which of the node's GPUs are its own.
        gpus = ",".join(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))
        seen = {"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}
        self._host = StartedHost(ServerProcess(program, {**environ, **seen}, log_path))

    def start(self) -> tuple[int, ServerDescription]:
        """Start the server; return its port and what it says of itself."""
        self._host.start()
        described = self._host.describe()
        self._host.remember(described)
        return self._host.port, described

    def recover(self) -> None:
        """See `StartedHost.recover`."""
        self._host.recover()

    def close(self) -> None:
        """End the server."""
        self._host.close()


class NodeHosts:
    """One policy server per node, each asked by the simulators of its node; travels to them.

    Args:
        servers: An actor with a `ServerActor` by node.
        ports: Of their servers.
    """

    def __init__(self, servers: Mapping[str, Any], ports: Mapping[str, int]) -> None:
        self._servers = dict(servers)
        self._ports = dict(ports)

    def connect(self) -> ExternalRobotInferenceClient:
        """See `gr00t.eval.rollout.agents.PolicyHost`."""
        return ExternalRobotInferenceClient("127.0.0.1", self._ports[_this_node()])

    def recover(self) -> None:
        """See `gr00t.eval.rollout.agents.PolicyHost`."""
        import ray

        ray.get(self._servers[_this_node()].recover.remote())

    def confirm(self, policy: Any) -> None:
        """Nothing to ask: nobody else can put another server in the place of this one."""


def start_ray(address: str, root: Path) -> Any:
    """Connect to a cluster, or start one on this machine; return the module.

    Raises:
        ClusterError: Ray is not installed, or nobody answers at `address`.
    """
    try:
        import ray
    except ImportError:
        raise ClusterError(f"--cluster needs Ray; run: {ENABLE}") from None
    received = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
        )
    except (ConnectionError, ValueError) as error:
        raise ClusterError(f"--cluster {address}: {error}") from None
    finally:
        # Ray puts a handler of its own in the place of the program's, which knows how to end it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, received)
    return ray


def on_node(ray: Any, actor: type, node: str, gpus: float = 0.0) -> Any:
    """An actor class that lives on `node`. How many run there is our own count, so they ask for no cores."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return ray.remote(num_cpus=0, num_gpus=gpus, scheduling_strategy=place)(actor)


def _this_node() -> str:
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node
