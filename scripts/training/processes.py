"""Starting as many processes as --num-gpus asks for, as torchrun does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
from torch import distributed

from training.arguments import Arguments
from training.command_line import UsageError


def processes_of(arguments: Arguments) -> int:
    """How many processes train.

    Raises:
        UsageError: more than there are GPUs, or others than torchrun has started.
    """
    asked = arguments.num_gpus
    if distributed.is_torchelastic_launched():
        started = int(os.environ["WORLD_SIZE"])
        if asked not in (None, 1, started):
            raise UsageError(f"--num-gpus {asked}: torchrun has started {started} processes; leave it out")
        return started
    if asked is None or asked == 1:
        return 1
    found = torch.cuda.device_count()
    if arguments.device is None and asked > found:
        raise UsageError(
            f"--num-gpus {asked}: this machine has {found}; expected at most {max(1, found)}, or --device "
            "cpu beside it, where processes share the cores"
        )
    return asked


def start(processes: int, words: Sequence[str]) -> None:
    """Become the launcher of `processes` copies of this program, unless they are there already."""
    if processes == 1 or distributed.is_torchelastic_launched():
        return
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *launcher, os.path.abspath(sys.argv[0]), *words])
