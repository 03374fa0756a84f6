"""Several simulators and their jobs. Oracles: the order of the jobs, and what the stubs remember."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gr00t.libero.simulator.pool import SimulatorPool


class StubSimulator:
    """Does nothing, one thing at a time."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.closed = 0
        self.busy = threading.Lock()

    def close(self) -> None:
        assert not self.busy.locked(), "closed under somebody's hands"
        self.closed += 1


def pool_of(*simulators: StubSimulator) -> SimulatorPool:
    made: Any = simulators
    return SimulatorPool(made)


def test_results_come_in_the_order_of_the_jobs_whoever_is_first() -> None:
    simulators = (StubSimulator(), StubSimulator())
    second_done = threading.Event()

    def work(simulator: Any, job: int) -> int:
        assert simulator.busy.acquire(blocking=False)
        simulator.jobs.append(job)
        if job == 0:
            assert second_done.wait(10)
        if job == 2:
            second_done.set()
        simulator.busy.release()
        return job * job

    with pool_of(*simulators) as pool:
        assert len(pool) == 2
        assert list(pool.map(work, range(6))) == [0, 1, 4, 9, 16, 25]
        # While one had job 0, the other did jobs 1 and 2.
        assert any({1, 2} <= set(simulator.jobs) for simulator in simulators)
        assert list(pool.map(lambda simulator, job: job + 1, [7])) == [8]
        assert list(pool.map(work, [])) == []
        assert [simulator.closed for simulator in simulators] == [0, 0]
    assert [simulator.closed for simulator in simulators] == [1, 1]


def test_a_failure_ends_long_jobs_drops_the_rest_and_no_cut_result_comes_before_it() -> None:
    simulators = (StubSimulator(), StubSimulator())
    long_begun = threading.Event()
    begun: list[int] = []

    def work(simulator: Any, job: int) -> str:
        begun.append(job)
        if job == 1:
            assert long_begun.wait(10)
            raise OSError("no room")
        long_begun.set()
        while not pool.is_stopping:
            threading.Event().wait(0.01)
        return "cut off"

    with pool_of(*simulators) as pool, pytest.raises(OSError, match="no room"):
        # The first job has returned, but less than it would have.
        next(pool.map(work, range(9)))
    assert sorted(begun) == [0, 1]
    assert [simulator.closed for simulator in simulators] == [1, 1]


def test_who_leaves_early_leaves_no_job_behind() -> None:
    simulator = StubSimulator()
    begun: list[int] = []

    def work(simulator: Any, job: int) -> int:
        with simulator.busy:
            begun.append(job)
            while job and not pool.is_stopping:
                threading.Event().wait(0.01)
        return job

    before = threading.active_count()
    with pool_of(simulator) as pool:
        results = pool.map(work, range(9))
        assert next(results) == 0
    assert begun in ([0], [0, 1])
    assert simulator.closed == 1
    assert threading.active_count() == before
