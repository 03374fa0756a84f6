"""Training is a program here; N1.5's class of this module says which."""

from __future__ import annotations

from gr00t.data.reference_names import missing_names

__getattr__ = missing_names(
    __name__, {"TrainRunner": "scripts/gr00t_finetune.py, or gr00t.training.trainer.Trainer"}
)
