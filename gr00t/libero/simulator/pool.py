"""Several simulators at work on a list of jobs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from gr00t.libero.simulator.process import SimulatorProcess

Job = TypeVar("Job")
Result = TypeVar("Result")


class SimulatorPool:
    """Simulators that are given one job after the other; a context that closes them at its end.

    Args:
        simulators: At least one; any of them may get any job.
    """

    def __init__(self, simulators: Sequence[SimulatorProcess]) -> None:
        self._simulators = tuple(simulators)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._results: Generator[object, None, None] | None = None

    def __enter__(self) -> SimulatorPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._results is not None:
            self._results.close()
        for simulator in self._simulators:
            simulator.close()

    def __len__(self) -> int:
        return len(self._simulators)

    @property
    def is_stopping(self) -> bool:
        """Whether no result counts any more: a job failed, or nobody waits. A long job looks, and returns."""
        return self._stopping.is_set()

    def map(
        self, function: Callable[[SimulatorProcess, Job], Result], jobs: Iterable[Job]
    ) -> Generator[Result, None, None]:
        """Yield `function(simulator, job)` of each job, in the order of the jobs; one `map` at a time.

        The function runs in a thread of this process with a simulator to itself. What it raises is raised
        here, once the jobs under way have returned; those that have not begun are dropped.
        """
        self._results = results = self._map(function, jobs)
        return results

    def _map(
        self, function: Callable[[SimulatorProcess, Job], Result], jobs: Iterable[Job]
    ) -> Generator[Result, None, None]:
        self._stopping.clear()
        self._failure = None
        idle: queue.SimpleQueue[SimulatorProcess] = queue.SimpleQueue()
        for simulator in self._simulators:
            idle.put(simulator)

        def work(job: Job) -> Result:
            if self._stopping.is_set():
                raise CancelledError
            simulator = idle.get()
            try:
                return function(simulator, job)
            except BaseException as error:
                self._failure = self._failure or error
                self._stopping.set()
                raise
            finally:
                idle.put(simulator)

        with ThreadPoolExecutor(len(self._simulators)) as threads:
            futures = [threads.submit(work, job) for job in jobs]
            try:
                for future in futures:
                    result = future.result()
                    # A job that looked may have returned less than all: the failure was noted before that.
                    if self._failure is not None:
                        raise self._failure
                    yield result
            finally:
                self._stopping.set()
                threads.shutdown(cancel_futures=True)
