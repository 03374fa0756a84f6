"""Starting as many processes as --num-gpus asks for, as torchrun does."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import torch
from torch import distributed

from gr00t.cli.errors import UsageError
from gr00t.cli.training.arguments import TrainArguments


def processes_of(arguments: TrainArguments) -> int:
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


def is_one_of_several() -> bool:
    """Whether torchrun, or `start`, has started this process."""
    return distributed.is_torchelastic_launched()


def start(processes: int, words: Sequence[str]) -> int:
    """Run this program in a group of `processes` processes; return the status of the first that failed."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Which process failed first is in the status, and why in what it said.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    options = ["--standalone", "--nproc-per-node", str(processes)]
    spec = sys.modules["__main__"].__spec__  # of python -m; of a file there is none
    program = [os.path.abspath(sys.argv[0])] if spec is None else ["--module", spec.name]
    try:
        run.run(run.parse_args([*options, *program, *words]))
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode or 1
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0
