"""The loop of a training: progress with the time that is left, log, tracker, checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from gr00t.training.checkpoint_writer import CheckpointWriter
from gr00t.training.distributed import ProcessGroup
from gr00t.training.resources import gib, used
from gr00t.training.trackers import Tracker
from gr00t.training.trainer import Trainer


@dataclass(frozen=True)
class Intervals:
    """When a run writes and stops.

    Attributes:
        log: steps between lines of the log.
        save: steps between checkpoints.
        stop_after: step to stop after; None: the last one.
    """

    log: int
    save: int
    stop_after: int | None = None


class TrainingLog:
    """Figures of steps, averaged from line to line of training.jsonl."""

    def __init__(self, output: Path, device: torch.device, last: int, tracker: Tracker) -> None:
        self._name = output / "training.jsonl"
        self._device = device
        self._last = last
        self._tracker = tracker
        self._begun = time.perf_counter()
        self._losses: list[float] = []
        self._steps = 0
        self.means: list[float] = []

    @contextmanager
    def opened(self, *, writes: bool) -> Iterator[None]:
        """For as long as lines are written; to nowhere, if not `writes`."""
        with (self._name if writes else Path(os.devnull)).open("a", encoding="utf-8") as self._file:
            yield

    def add(self, figures: Mapping[str, float], *, line: bool) -> None:
        """Take the figures of a step, and write a line of all since the last one."""
        self._losses.append(figures["loss"])
        self._steps += 1
        if not line:
            return
        elapsed = time.perf_counter() - self._begun
        mean = sum(self._losses) / len(self._losses)
        told = {
            **figures,
            "loss": mean,
            "elapsed": elapsed,
            "remaining": elapsed / self._steps * (self._last - figures["step"]),
            "memory_gib": used(self._device) / 2**30,
        }
        self._file.write(json.dumps({key: round(value, 6) for key, value in told.items()}) + "\n")
        self._file.flush()
        self._tracker.add(int(figures["step"]), {key: told[key] for key in told if key != "step"})
        self.means.append(mean)
        self._losses = []


def learn(
    trainer: Trainer,
    intervals: Intervals,
    checkpoints: CheckpointWriter,
    group: ProcessGroup,
    device: torch.device,
    tracker: Tracker,
) -> list[float]:
    """Run to the end, or to where it is to stop; return the mean losses of the log.

    Only the first process of a group writes and speaks.
    """
    steps = trainer.plan.steps
    last = min(steps, intervals.stop_after or steps)
    log = TrainingLog(checkpoints.output, device, last, tracker)
    bar = tqdm(initial=trainer.step, total=steps, unit="step", disable=bool(group.rank))
    with log.opened(writes=not group.rank), bar:
        run = trainer.run()
        while trainer.step < last:
            figures = next(run)
            bar.update()
            at_the_end = trainer.step == last
            line = at_the_end or trainer.step % intervals.log == 0
            log.add(figures, line=line)
            if line:
                bar.set_postfix_str(f"loss {log.means[-1]:.4f}, {gib(used(device))}")
            if not group.rank and (at_the_end or trainer.step % intervals.save == 0):
                checkpoints.save(trainer)
        run.close()
    return log.means
