"""N simulators at work on one list of episodes, each driven by a thread of this process.

Simulators are processes of their own and policies sit behind sockets, so the threads only wait. They take
episodes from one board, which lets a simulator stay with its task while that has episodes left: opening
another takes seconds. Which simulator plays what has no influence on results.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from typing import Protocol

from gr00t.eval.rollout.agents import Agent
from gr00t.eval.rollout.episode import Simulator
from gr00t.eval.rollout.plan import EpisodeJob, EvalPlan
from gr00t.eval.rollout.player import Player, SimulatorSlot
from gr00t.eval.rollout.record_parts import ArmConditions
from gr00t.eval.rollout.run_folder import PlayedEpisode
from gr00t.libero.tasks.suites import LiberoError

logger = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 5.0


class Pool(Protocol):
    """Whatever plays lists of episodes: simulators of this machine, or of a cluster."""

    def play(
        self,
        jobs: Sequence[EpisodeJob],
        make_agent: Callable[[], Agent],
        plan: EvalPlan,
        arm: str,
        conditions: ArmConditions,
    ) -> Generator[PlayedEpisode, None, None]:
        """Play every job once, in whatever order they end."""

    def close(self) -> None:
        """End the simulators."""


class JobBoard:
    """Episodes to be taken, by several threads."""

    def __init__(self, jobs: Iterable[EpisodeJob]) -> None:
        self._lock = threading.Lock()
        self._by_task: dict[int, list[EpisodeJob]] = {}
        self._at: dict[Hashable, int] = {}
        for job in jobs:
            self._by_task.setdefault(job.task.index, []).append(job)

    def take(self, who: Hashable, task: int | None) -> EpisodeJob | None:
        """The next episode for simulator `who` that has `task` open, or None when all are taken.

        The same task while it has any; else the one with the most left for each simulator that is at it.
        """
        with self._lock:
            left = {index: jobs for index, jobs in self._by_task.items() if jobs}
            self._at.pop(who, None)
            if not left:
                return None
            if task not in left:
                at = list(self._at.values())
                task = max(left, key=lambda index: len(left[index]) / (1 + at.count(index)))
            self._at[who] = task
            return left[task].pop(0)

    def give_back(self, job: EpisodeJob) -> None:
        """Put an episode back that was taken and not played."""
        with self._lock:
            self._by_task[job.task.index].insert(0, job)


class LocalPool:
    """Simulators of this machine.

    Args:
        simulators: Any number; they are closed with the pool.
    """

    def __init__(self, simulators: Sequence[Simulator]) -> None:
        self._slots = [SimulatorSlot(simulator) for simulator in simulators]
        self._stop = threading.Event()

    def play(
        self,
        jobs: Sequence[EpisodeJob],
        make_agent: Callable[[], Agent],
        plan: EvalPlan,
        arm: str,
        conditions: ArmConditions,
    ) -> Generator[PlayedEpisode, None, None]:
        """Play every job once; yields episodes as they end.

        What a thread raises is raised here, and ends the others. So does leaving the loop over this iterator.
        """
        board = JobBoard(jobs)
        results: queue.SimpleQueue[PlayedEpisode | BaseException] = queue.SimpleQueue()
        threads = [
            threading.Thread(
                target=self._work,
                args=(Player(slot, make_agent(), plan, arm, conditions, self._stop.is_set), board, results),
                # A policy that never answers must not keep a stopped program alive.
                daemon=True,
                name=f"simulator {number}",
            )
            for number, slot in enumerate(self._slots[: len(jobs)])
        ]
        finished = False
        try:
            _start(threads)
            for _ in jobs:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
            finished = True
        finally:
            if not finished:
                self._stop.set()
                self._kill()
            deadline = time.monotonic() + _LAST_WORDS_SECONDS
            for thread in filter(threading.Thread.is_alive, threads):
                thread.join(None if finished else max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """End the simulators. The pool cannot be used any more."""
        self._stop.set()
        for slot in self._slots:
            slot.discard()

    def _kill(self) -> None:
        """Wake the threads that wait for a simulator: it dies under them."""
        for slot in self._slots:
            kill = getattr(slot.simulator, "kill", None)
            if kill is not None:
                kill()

    def _work(
        self, player: Player, board: JobBoard, results: queue.SimpleQueue[PlayedEpisode | BaseException]
    ) -> None:
        try:
            while not self._stop.is_set():
                job = board.take(player, player.slot.task)
                if job is None:
                    break
                results.put(player.play(job))
        except BaseException as error:  # noqa: BLE001  (raised again where the results are read)
            results.put(error)
        finally:
            player.close()


def _start(threads: Sequence[threading.Thread]) -> None:
    try:
        for thread in threads:
            thread.start()
    except RuntimeError as error:
        raise LiberoError(
            f"the machine has no room for {len(threads)} simulators ({error}); fewer --workers need less"
        ) from None
