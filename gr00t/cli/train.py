"""Train GR00T N1.5 on demonstrations in the LeRobot layout.

    python scripts/train.py --data FOLDER --checkpoint nvidia/GR00T-N1.5-3B --output FOLDER --steps 10000

It starts from a checkpoint and ends with one, in NVIDIA's layout, with the statistics of the data, in
OUTPUT/checkpoint. The same command goes on where an interrupted run was, from the newest OUTPUT/checkpoint-N,
and ends with the same weights as one that was not interrupted.

    torchrun --nproc-per-node 2 scripts/train.py ...

divides every batch among processes: one for each GPU, or for each core if the network is small.

The data configuration names the keys; `meta/modality.json` of the data says where they are. The flags of
Isaac-GR00T N1.5's gr00t_finetune.py are other names of these; scripts/gr00t_finetune.py has its defaults.
"""

from __future__ import annotations

from gr00t.cli.training.arguments import TrainArguments
from gr00t.cli.training.command import train_as_asked


def main() -> int:
    """Run as a program."""
    return train_as_asked(TrainArguments, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
