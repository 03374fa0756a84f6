"""Fine-tune GR00T N1.5 with the flags and the defaults of Isaac-GR00T N1.5's program of this name.

    python scripts/gr00t_finetune.py --dataset-path FOLDER [FOLDER ...] --output-dir FOLDER --num-gpus 1

The trained checkpoint is OUTPUT itself, and on the way there are OUTPUT/checkpoint-N; each loads by its
folder, and --resume goes on from the newest. Beware of three of these defaults: the data configuration is
that of a Fourier GR1's arms, /tmp/gr00t may be emptied by the system at any time, and each checkpoint of the
full size takes 16 GiB of disk with the state to go on from (five are kept). --dry-run says what a run needs.

scripts/train.py is the same program with other defaults; docs/FINE_TUNING.md says what differs from NVIDIA's.
"""

from __future__ import annotations

from gr00t.cli.training.arguments import FinetuneArguments
from gr00t.cli.training.command import train_as_asked


def main() -> int:
    """Run as a program."""
    return train_as_asked(FinetuneArguments, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
