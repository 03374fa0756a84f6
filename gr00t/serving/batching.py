"""Requests of many clients in one forward: a queue, and the one thread that computes.

The socket's loop puts every request that needs the model into the queue and goes on listening, so a ping is
answered while a forward runs. The computing thread takes what is waiting at that moment: it prepares requests
one by one, which checks each on its own, until nothing more waits or the batch is full, and answers them
together.

Nobody is waited for. A lone client's request is computed at once; while it is prepared and computed others
arrive, and these are the next batch. So batches grow with the load and by nothing else. Waiting would not
help: of 16 clients that ask without a pause 14.9 share a forward on average, since preparing the first takes
longer than the others take to arrive (scripts/bench/serving.py).

Requests of different kinds never share a batch, and those of one kind are answered in the order of their
coming. An endpoint that is not batched is a barrier: what came before it is answered before, what came after
it, after.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gr00t.serving.endpoints import (
    EndpointHandler,
    Failure,
    PreparedRequest,
    Request,
    UnavailableError,
    attempt,
)
from gr00t.serving.wires import n1_5 as wire

logger = logging.getLogger(__name__)

# A REQ client has one request under way: this many clients, or a few that send without reading answers.
MAX_WAITING = 256
MAX_WAITING_BYTES = 512 * 1024 * 1024
# A prepared sample takes megabytes, a waiting one may be a few bytes: of other kinds than the one that is
# computed next no more than this many batches are prepared.
_PREPARED_AHEAD = 4


class Sender(Protocol):
    """Who asks."""

    @property
    def is_gone(self) -> bool:
        """Whether it is not connected any more."""


@dataclass(frozen=True, eq=False)
class QueuedRequest:
    """One accepted request.

    Attributes:
        request: what is asked.
        endpoint: what answers it.
        envelope: the frames that lead back to its sender.
        size: bytes of its message.
        deliver: called in the computing thread with this request and its result or Failure, once unless it is
            abandoned.
        sender: who asked; whatever has `is_gone`, or None where nobody can be gone.
    """

    request: Request
    endpoint: EndpointHandler
    envelope: list[bytes]
    size: int
    deliver: Callable[[QueuedRequest, Any], None]
    sender: Sender | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody is there any more to take the answer."""
        return self.sender is not None and self.sender.is_gone


@dataclass(frozen=True, eq=False)
class _Ready:
    """A job that is next to be computed: prepared, or None where it is computed alone."""

    job: QueuedRequest
    prepared: PreparedRequest | None


class Worker:
    """The queue and its computing thread, of one server or of several that serve the same model.

    Attributes:
        batch_sizes: how many forwards had how many requests.
        abandoned: how many jobs were left out because their senders had gone.
        ended: whether the thread has ended, after `stop` or by a fatal error.

    Args:
        max_waiting: so many jobs may wait; more are refused.
        max_waiting_bytes: so many bytes of messages may wait.
    """

    def __init__(
        self,
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self.batch_sizes: collections.Counter[int] = collections.Counter()
        self.abandoned = 0
        self.ended = False
        self._on_end: list[Callable[[], None]] = []
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._changed = threading.Condition()  # guards the next five
        self._waiting: collections.deque[QueuedRequest] = collections.deque()
        self._waiting_count = 0  # with those that are prepared and not yet computed
        self._waiting_bytes = 0
        self._refusing = False
        self._stopping = False
        self._ready: collections.deque[_Ready] = collections.deque()  # of the computing thread alone
        self._is_started = False
        # A daemon: the program can end even in the middle of a forward.
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def tell_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, in the computing thread, when that ends."""
        self._on_end.append(callback)

    def start(self) -> None:
        """Begin to compute, unless another server of the same model has begun it."""
        with self._changed:
            if not self._is_started:
                self._is_started = True
                self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait to be computed."""
        return self._waiting_count

    def submit(self, job: QueuedRequest) -> None:
        """Queue a job.

        Raises:
            UnavailableError: too much waits already, or `stop` was called; the job is not delivered then.
        """
        with self._changed:
            if self._stopping:
                raise stopping()
            if not self._has_room(job):
                self._drop_abandoned()
            if not self._has_room(job):
                if not self._refusing:
                    logger.warning("%d requests wait: others are refused", self._waiting_count)
                self._refusing = True
                raise UnavailableError(
                    f"{wire.BUSY}{self._waiting_count} requests of {self._waiting_bytes} bytes are waiting "
                    "already; ask again later"
                )
            if self._waiting_count < self._max_waiting / 2:
                self._refusing = False
            self._waiting.append(job)
            self._waiting_count += 1
            self._waiting_bytes += job.size
            self._changed.notify()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Let the thread finish the batch that it computes; deliver a Failure to all that wait."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the thread's last step, once it has `ended`."""
        self._thread.join()

    def _has_room(self, job: QueuedRequest) -> bool:
        return (
            self._waiting_count < self._max_waiting
            and self._waiting_bytes + job.size <= self._max_waiting_bytes
        )

    def _drop_abandoned(self) -> None:
        """Take jobs of senders that have gone out of what waits; the lock is held."""
        # Asked once: a sender may go at any moment.
        dropped = [job for job in self._waiting if job.is_abandoned]
        if dropped:
            gone = set(dropped)
            self._waiting = collections.deque(job for job in self._waiting if job not in gone)
            self._count_out(dropped)
            self.abandoned += len(dropped)

    def _count_out(self, jobs: Sequence[QueuedRequest]) -> None:
        """Take note that jobs wait no longer; the lock is held."""
        self._waiting_count -= len(jobs)
        self._waiting_bytes -= sum(job.size for job in jobs)

    def _run(self) -> None:
        try:
            while batch := self._gather():
                self._compute(batch)
            for job in [*(entry.job for entry in self._ready), *self._waiting]:
                job.deliver(job, Failure(stopping()))
        finally:
            self.ended = True
            for callback in self._on_end:
                callback()

    def _gather(self) -> list[_Ready]:
        """Return what is computed next, taken from what waits; wait while there is nothing. Empty: stop."""
        while True:
            self._leave_out_abandoned()
            batch, full = self._next_batch()
            if full or (job := self._take(wait=not batch)) is None:
                break
            self._prepare(job)
        if self._stopping:
            return []
        for entry in batch:
            self._ready.remove(entry)
        with self._changed:
            self._count_out([entry.job for entry in batch])
        return batch

    def _take(self, wait: bool) -> QueuedRequest | None:
        with self._changed:
            self._drop_abandoned()
            while wait and not self._waiting and not self._stopping:
                self._changed.wait()
                self._drop_abandoned()
            return None if self._stopping or not self._waiting else self._waiting.popleft()

    def _leave_out_abandoned(self) -> None:
        """Forget prepared jobs whose senders went meanwhile."""
        dropped = [entry for entry in self._ready if entry.job.is_abandoned]
        if dropped:
            gone = set(dropped)
            self._ready = collections.deque(entry for entry in self._ready if entry not in gone)
            with self._changed:
                self._count_out([entry.job for entry in dropped])
                self.abandoned += len(dropped)

    def _prepare(self, job: QueuedRequest) -> None:
        batched = job.endpoint.batched
        if batched is None:
            self._ready.append(_Ready(job, None))
            return
        prepared = attempt(lambda: batched.prepare(job.request.input(), **job.request.options))
        if isinstance(prepared, Failure):
            with self._changed:
                self._count_out([job])
            job.deliver(job, prepared)
        else:
            self._ready.append(_Ready(job, prepared))

    def _next_batch(self) -> tuple[list[_Ready], bool]:
        """Return what goes with the oldest prepared job, and whether nothing that still waits can join it."""
        if not self._ready:
            return [], False
        head = self._ready[0]
        if head.prepared is None or head.job.endpoint.batched is None:
            return [head], True
        limit = head.job.endpoint.batched.limit()
        batch: list[_Ready] = []
        samples = 0
        for entry in self._ready:
            if entry.job.endpoint.batched is not head.job.endpoint.batched or entry.prepared is None:
                return batch, True
            if entry.prepared.kind != head.prepared.kind:
                continue
            if batch and samples + entry.prepared.samples > limit:
                return batch, True
            batch.append(entry)
            samples += entry.prepared.samples
        prepared = sum(entry.prepared.samples for entry in self._ready if entry.prepared is not None)
        return batch, samples >= limit or prepared >= _PREPARED_AHEAD * limit

    def _compute(self, batch: list[_Ready]) -> None:
        endpoint = batch[0].job.endpoint
        if endpoint.batched is None:
            batch[0].job.deliver(batch[0].job, attempt(lambda: endpoint.answer(batch[0].job.request)))
            return
        answer = endpoint.batched.answer
        answered = attempt(lambda: list(zip(batch, answer([entry.prepared for entry in batch]), strict=True)))
        if not isinstance(answered, Failure):
            self.batch_sizes[len(batch)] += 1
            for entry, result in answered:
                entry.job.deliver(entry.job, result)
        elif len(batch) == 1:
            batch[0].job.deliver(batch[0].job, answered)
        else:
            # The fault of one of them, or of their number. Alone each gets its own answer.
            logger.warning(
                "a batch of %d failed and is computed one by one: %.500s", len(batch), answered.text
            )
            for entry in batch:
                self._compute([entry])


def stopping() -> UnavailableError:
    """What a server that was told to end says to all that it does not answer any more."""
    return UnavailableError(f"{wire.STOPPING}the server was told to end")
