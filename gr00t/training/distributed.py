"""Several processes that train one network: each takes its share of a batch, and gradients are averaged.

`torchrun --nproc-per-node N scripts/train.py ...` starts them: one for each GPU, or for each core of a small
network, whose operations are too short to be divided among threads. All end with the same weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class ProcessGroup:
    """Who takes part: several processes, or, as `SINGLE_PROCESS`, this one.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share_of(self, name: str, count: int) -> int:
        """How many of `count` samples each takes.

        Raises:
            ValueError: they cannot be dealt out evenly; the message calls them `name`.
        """
        if count % self.size:
            raise ValueError(
                f"{name}: {count} cannot be shared by {self.size} processes: expected a multiple"
            )
        return count // self.size

    def device(self, asked: str | None) -> torch.device:
        """Where this process computes: `asked`, or a GPU if there is one; several have a GPU each.

        Raises:
            ValueError: no such device, more processes than GPUs, or one GPU named for all of them.
        """
        device = _device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise ValueError(f"--device {asked}: {self.size} processes: expected cuda, a GPU each, or cpu")
        if self.size > torch.cuda.device_count():
            raise ValueError(f"{self.size} processes, {torch.cuda.device_count()} GPUs: expected one each")
        return torch.device("cuda", self.rank)

    def average(self, parameters: Sequence[nn.Parameter], figures: dict[str, float]) -> dict[str, float]:
        """Replace every gradient by its mean over all processes; return the means of `figures`."""
        if self.size == 1:
            return figures
        gradients = [value.grad for value in parameters if value.grad is not None]
        told = torch.tensor(list(figures.values()), device=gradients[0].device)
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), told])
        distributed.all_reduce(flat)
        flat /= self.size
        means = flat[-len(figures) :].tolist()
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()
        return dict(zip(figures, means, strict=True))

    def wait(self) -> None:
        """Until all have come this far."""
        if self.size > 1:
            distributed.barrier()


def _device(asked: str) -> torch.device:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked):
        raise ValueError(f"--device {asked}: expected cpu, cuda or cuda:N")
    device = torch.device(asked)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"--device {asked}: torch {torch.__version__} finds {found} GPUs here")
    return device


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def joined_process_group() -> Iterator[ProcessGroup]:
    """The processes that torchrun has started, connected; this one if it has not."""
    if not distributed.is_torchelastic_launched():
        yield SINGLE_PROCESS
        return
    distributed.init_process_group("gloo")
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
