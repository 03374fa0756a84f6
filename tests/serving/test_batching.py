"""The queue in front of the computing thread. Oracle: the order and the company in which jobs were submitted.

No socket and no model here: an endpoint that doubles numbers, and a gate that holds its forward.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr00t.serving.batching import QueuedRequest, Worker
from gr00t.serving.endpoints import EndpointHandler, Failure, Request, UnavailableError


@dataclass(frozen=True)
class Number:
    value: int
    kind: str
    samples: int


class Doubling:
    """Doubles numbers together, and remembers which; its gate is open unless a test closes it."""

    def __init__(self, limit: int = 100) -> None:
        self.size = limit
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def limit(self) -> int:
        return self.size

    def prepare(self, data: Any, *, kind: str = "a", samples: int = 1) -> Number:
        if data < 0:
            raise ValueError(f"{data} is negative")
        return Number(data, kind, samples)

    def answer(self, requests: Sequence[Number]) -> list[int]:
        self.begun.release()
        assert self.gate.wait(10)
        self.batches.append([request.value for request in requests])
        if 666 in self.batches[-1]:
            raise RuntimeError("out of memory")
        return [2 * request.value for request in requests]


class Bench:
    """A worker, and what it delivered."""

    def __init__(self, endpoint: Doubling, **limits: int) -> None:
        self.endpoint = endpoint
        self.delivered: list[tuple[int, Any]] = []
        self.ended = threading.Event()
        self.worker = Worker(**limits)
        self.worker.tell_end(self.ended.set)

    def _deliver(self, job: QueuedRequest, outcome: Any) -> None:
        self.delivered.append((job.request.data, outcome.text if isinstance(outcome, Failure) else outcome))

    def submit(self, *values: int, size: int = 1, **options: Any) -> None:
        handler = EndpointHandler(lambda data: data, batched=self.endpoint)
        for value in values:
            request = Request("double", value, options)
            self.worker.submit(QueuedRequest(request, handler, [], size, self._deliver))

    def submit_alone(self, value: int) -> None:
        def square(data: int) -> int:
            self.endpoint.batches.append([data])
            return data * data

        handler = EndpointHandler(square)
        self.worker.submit(QueuedRequest(Request("square", value, {}), handler, [], 1, self._deliver))

    def finish(self, count: int) -> None:
        """Let everything be computed, and end."""
        deadline = threading.Event()
        for _ in range(1000):
            if len(self.delivered) >= count:
                break
            deadline.wait(0.01)
        self.worker.stop()
        assert self.ended.wait(10)
        assert len(self.delivered) == count


STOPPING = "stopping: the server was told to end"


def test_a_lone_job_is_computed_at_once_and_what_comes_meanwhile_is_the_next_batch() -> None:
    endpoint = Doubling()
    bench = Bench(endpoint)
    endpoint.gate.clear()
    bench.worker.start()
    bench.submit(1)
    assert endpoint.begun.acquire(timeout=10)  # nobody was waited for
    bench.submit(2, 3, 4)
    endpoint.gate.set()
    bench.finish(4)
    assert endpoint.batches == [[1], [2, 3, 4]]
    assert bench.delivered == [(1, 2), (2, 4), (3, 6), (4, 8)]
    assert bench.worker.batch_sizes == {1: 1, 3: 1}


def test_a_batch_has_its_limit_which_may_change() -> None:
    bench = Bench(endpoint := Doubling(limit=4))
    bench.submit(*range(9))
    bench.worker.start()
    bench.finish(9)
    assert endpoint.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]

    class Settling(Doubling):
        def limit(self) -> int:
            return 1 if len(self.batches) < 3 else 8

    bench = Bench(endpoint := Settling())
    bench.submit(*range(9))
    bench.worker.start()
    bench.finish(9)
    assert endpoint.batches == [[0], [1], [2], [3, 4, 5, 6, 7, 8]]


def test_samples_count_and_a_request_over_the_limit_is_computed_alone() -> None:
    bench = Bench(endpoint := Doubling(limit=4))
    for value, samples in [(1, 3), (2, 2), (3, 2), (4, 9), (5, 1)]:
        bench.submit(value, samples=samples)
    bench.worker.start()
    bench.finish(5)
    assert endpoint.batches == [[1], [2, 3], [4], [5]]


def test_kinds_are_not_mixed_and_the_oldest_comes_first() -> None:
    bench = Bench(endpoint := Doubling())
    for value, kind in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "c")]:
        bench.submit(value, kind=kind)
    bench.worker.start()
    bench.finish(5)
    assert endpoint.batches == [[1, 3], [2, 4], [5]]


def test_an_endpoint_that_is_not_batched_keeps_its_place() -> None:
    bench = Bench(endpoint := Doubling())
    bench.submit(1, 2)
    bench.submit_alone(7)
    bench.submit(3, 4)
    bench.worker.start()
    bench.finish(5)
    assert endpoint.batches == [[1, 2], [7], [3, 4]]
    assert dict(bench.delivered)[7] == 49


def test_a_bad_request_gets_its_own_error_and_the_others_their_answers() -> None:
    bench = Bench(endpoint := Doubling())
    bench.submit(1, -2, 3)
    bench.submit(4, kin="a")
    bench.worker.start()
    bench.finish(4)
    assert endpoint.batches == [[1, 3]]
    outcomes = dict(bench.delivered)
    assert (outcomes[1], outcomes[-2], outcomes[3]) == (2, "-2 is negative", 6)
    assert "unexpected keyword argument 'kin'" in outcomes[4]


def test_a_batch_that_fails_is_computed_one_by_one_and_only_the_culprit_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(endpoint := Doubling())
    bench.submit(1, 666, 3)
    bench.worker.start()
    bench.finish(3)
    assert endpoint.batches == [[1, 666, 3], [1], [666], [3]]
    assert bench.delivered == [(1, 2), (666, "RuntimeError: out of memory"), (3, 6)]
    assert "a batch of 3 failed and is computed one by one: RuntimeError: out of memory" in caplog.text


def test_an_endpoint_that_loses_a_result_loses_no_request() -> None:
    class Forgetful(Doubling):
        def answer(self, requests: Sequence[Number]) -> list[int]:
            return super().answer(requests)[: 1 if len(requests) < 3 else 2]

    bench = Bench(Forgetful())
    bench.submit(1, 2, 3)
    bench.worker.start()
    bench.finish(3)
    assert bench.delivered == [(1, 2), (2, 4), (3, 6)]


def test_what_waits_is_bounded_in_number_and_bytes() -> None:
    endpoint = Doubling()
    bench = Bench(endpoint, max_waiting=3, max_waiting_bytes=1000)
    bench.submit(1, 2, 3)
    with pytest.raises(
        UnavailableError, match="busy: 3 requests of 3 bytes are waiting already; ask again later"
    ):
        bench.submit(4)
    endpoint.gate.clear()
    bench.worker.start()
    assert endpoint.begun.acquire(timeout=10)  # they wait no longer
    bench.submit(5, size=900)
    with pytest.raises(UnavailableError, match="busy: 1 requests of 900 bytes"):
        bench.submit(6, size=101)
    bench.submit(-7, size=100)  # a refused one makes room again as well
    endpoint.gate.set()
    bench.finish(5)
    assert bench.worker.waiting == 0


def test_at_the_end_the_batch_under_way_is_answered_and_the_rest_told() -> None:
    endpoint = Doubling(limit=2)
    bench = Bench(endpoint)
    endpoint.gate.clear()
    bench.submit(1)
    bench.submit(2, kind="b")  # prepared, for a batch to come
    bench.submit(3, 4, 5)
    bench.worker.start()
    assert endpoint.begun.acquire(timeout=10)
    bench.worker.stop()
    with pytest.raises(UnavailableError, match="stopping: "):
        bench.submit(6)
    endpoint.gate.set()
    assert bench.ended.wait(10)
    assert bench.delivered == [(1, 2), (3, 6), (2, STOPPING), (4, STOPPING), (5, STOPPING)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.sampled_from([1, 1, 1, -1, 666])), max_size=30
    ),
    st.integers(1, 6),
)
def test_every_job_gets_its_own_answer_exactly_once(jobs: list[tuple[str, int, int]], limit: int) -> None:
    bench = Bench(endpoint := Doubling(limit=limit))
    expected: dict[int, Any] = {}
    kinds = {}
    for number, (kind, samples, fate) in enumerate(jobs):
        value = {1: 1000 + number, -1: -1 - number, 666: 666}[fate]
        if value in expected:
            continue
        kinds[value] = (kind, samples)
        bench.submit(value, kind=kind, samples=samples)
        expected[value] = {1: 2 * value, -1: f"{value} is negative", 666: "RuntimeError: out of memory"}[fate]
    bench.worker.start()
    bench.finish(len(expected))
    assert collections.Counter(bench.delivered) == collections.Counter(expected.items())
    for batch in endpoint.batches:
        assert len({kinds[value][0] for value in batch}) == 1
        assert len(batch) == 1 or sum(kinds[value][1] for value in batch) <= limit
