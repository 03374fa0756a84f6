"""A checkpoint and the data configuration that it is served with, where none is named, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gr00t.experiment.data_config import load_data_config
from gr00t.model.checkpoints import Checkpoint, open_checkpoint
from gr00t.model.lerobot.serving import groot_serving

if TYPE_CHECKING:
    from gr00t.model.policy import Gr00tPolicy

# What most published LIBERO checkpoints of N1.5 were trained with.
STANDARD = "examples.Libero.custom_data_config:LiberoDataConfig"
# What a policy of lerobot is served with: the keys that follow from its folder.
OF_LEROBOT = "lerobot"


def load_policy(
    model_path: str | Path,
    data_config: str | None = None,
    *,
    base: str | Path | None = None,
    dtype: str = "bfloat16",
    **options: Any,
) -> Gr00tPolicy:
    """Load a checkpoint as a policy; its folder is looked for once.

    Args:
        model_path: folder or hub id of the checkpoint.
        data_config: of `choose_data_config`.
        base: see `gr00t.model.checkpoints.open_checkpoint`.
        dtype: of what is not quantized, as torch calls it.
        options: others of `Gr00tPolicy`.

    Raises:
        DataConfigError: there is no such data configuration.
        CheckpointError and others: see `Gr00tPolicy`.
    """
    import torch

    from gr00t.model.policy import Gr00tPolicy

    checkpoint = open_checkpoint(model_path, base)
    _, data = choose_data_config(data_config, checkpoint)
    return Gr00tPolicy(
        checkpoint,
        modality_config=data.modality_config(),
        modality_transform=data.transform(),
        torch_dtype=getattr(torch, dtype),
        **options,
    )


def choose_data_config(name: str | None, checkpoint: Checkpoint | None) -> tuple[str, Any]:
    """Return a data configuration and its name: the one of that name, else the one that the checkpoint has.

    Args:
        name: of `load_data_config`; None: what a policy of lerobot says itself, for others `STANDARD`.
        checkpoint: None: not known.

    Raises:
        DataConfigError: there is no such data configuration.
        CheckpointError: the files of a policy of lerobot contradict each other.
    """
    if name is None and checkpoint is not None:
        serving = groot_serving(checkpoint.source)
        if serving is not None:
            return OF_LEROBOT, serving
    name = STANDARD if name is None else name
    return name, load_data_config(name)


def served_data_config(name: str | None, policy: Any) -> tuple[str, Any]:
    """Return what `choose_data_config` returned for a policy that is there.

    Args:
        name: as it was given there.
        policy: may be somebody else's, of which nothing is known.
    """
    groot = getattr(policy, "groot", None)
    return (OF_LEROBOT, groot) if name is None and groot is not None else choose_data_config(name, None)
